import { sha256Hex, wipe } from '../core/bytes.ts';
import { Fault, toFault } from '../core/errors.ts';
import { fingerprintOfPem, publicKeyOf } from '../keys/public-key.ts';
import { wipePairs } from '../keys/supply.ts';
import { parsePrivateDer } from '../keys/rsa-numbers.ts';
import type { SealedBackup, SealedKey } from '../store/ops/check.ts';
import type { PreparedKey } from '../store/ops/prepared-keys.ts';
import type { Store } from '../store/store.ts';
import type { Vault } from '../vault/vault.ts';
import { openPrepared } from './key-pool.ts';

const AT_ONCE = 64;

/**
 * Every promise of the record, read anew: by its tables, which have a hash of whatever is sealed, and, with the vault, by
 * opening it: each private key has the public half on record, each backup the bytes that were hashed.
 * @param onProgress told how many sealed items have been opened so far
 * @returns every problem in words; none where the record is whole
 */
export async function checkAll(
  store: Pick<Store, 'call'>,
  vault: Pick<Vault, 'open'> | null,
  onProgress: (opened: number) => void = () => undefined,
): Promise<string[]> {
  const problems = [...(await store.call('checkRecord', undefined))];
  let opened = 0;
  const told = (problem: string | null): void => {
    if (problem !== null) problems.push(problem);
    opened += 1;
  };
  const keys = inPages(
    afterKeyId => store.call('sealedKeys', { afterKeyId, limit: AT_ONCE }),
    ({ keyId }) => keyId,
  );
  for await (const page of keys) {
    for (const key of page) told(await keyProblem(key, vault));
    onProgress(opened);
  }
  if (vault === null) return problems;
  const backups = inPages(
    afterBackupId => store.call('sealedBackups', { afterBackupId, limit: AT_ONCE }),
    ({ backupId }) => backupId,
  );
  for await (const page of backups) {
    for (const backup of page) told(await backupProblem(backup, vault));
    onProgress(opened);
  }
  const prepared = inPages(
    afterId => store.call('sealedPreparedKeys', { afterId, limit: AT_ONCE }),
    ({ id }) => id,
  );
  for await (const page of prepared) {
    for (const pair of page) told(await preparedProblem(pair, vault));
    onProgress(opened);
  }
  return problems;
}

/** @param ask for the items that come after a number */
export async function* inPages<T>(
  ask: (after: number) => Promise<readonly T[]>,
  numberOf: (item: T) => number,
  first = 0,
): AsyncGenerator<readonly T[], void> {
  for (let after = first; ;) {
    const page = await ask(after);
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    after = numberOf(last);
  }
}

async function keyProblem(key: SealedKey, vault: Pick<Vault, 'open'> | null): Promise<string | null> {
  const { deviceId, generation, fingerprint, publicPem } = key;
  const name = `key ${generation} of ${deviceId}`;
  if (fingerprintOfPem(publicPem) !== fingerprint) return `${name}: its public key is not the one of its fingerprint`;
  if (vault === null) return null;
  try {
    wipe((await openKey(key, vault)) ?? undefined);
    return null;
  } catch (error) {
    return `${name}: ${toFault(error).message}`;
  }
}

async function backupProblem(backup: SealedBackup, vault: Pick<Vault, 'open'>): Promise<string | null> {
  try {
    wipe(await openBackup(backup, vault));
    return null;
  } catch (error) {
    return `backup ${backup.backupId} of ${backup.deviceId}: ${toFault(error).message}`;
  }
}

async function preparedProblem(pair: PreparedKey, vault: Pick<Vault, 'open'>): Promise<string | null> {
  try {
    wipePairs([await openPrepared(pair, vault)]);
    return null;
  } catch (error) {
    return `prepared key ${pair.fingerprint}: ${toFault(error).message}`;
  }
}

/**
 * A sealed private key, checked against its row.
 * @returns null for a key whose private half lies in a backup; else bytes that the caller wipes
 * @throws Fault VAULT_SEALED_WRONG, VAULT_CLOSED
 */
export async function openKey(key: SealedKey, vault: Pick<Vault, 'open'>): Promise<Buffer | null> {
  const { deviceId, generation, fingerprint, sealedPrivate } = key;
  if (sealedPrivate === null) return null;
  const privateDer = await vault.open(sealedPrivate, { purpose: 'private-key', deviceId, generation, fingerprint });
  const numbers = parsePrivateDer(privateDer)?.numbers;
  if (numbers !== undefined && publicKeyOf(numbers.n, numbers.e).fingerprint === fingerprint) return privateDer;
  wipe(privateDer);
  throw new Fault('VAULT_SEALED_WRONG', 'the sealed private key is not its other half');
}

/**
 * A sealed backup, checked against its row.
 * @returns bytes that the caller wipes
 * @throws Fault VAULT_SEALED_WRONG, VAULT_CLOSED
 */
export async function openBackup(backup: SealedBackup, vault: Pick<Vault, 'open'>): Promise<Buffer> {
  const { deviceId, sha256, bytes, fingerprint, sealed } = backup;
  const plain = await vault.open(sealed, { purpose: 'backup', deviceId, generation: null, fingerprint });
  if (plain.length === bytes && sha256Hex(plain) === sha256) return plain;
  wipe(plain);
  throw new Fault('VAULT_SEALED_WRONG', 'its bytes are not those that were hashed');
}
