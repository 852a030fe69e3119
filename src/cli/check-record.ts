import { sha256Hex, wipe } from '../core/bytes.ts';
import { toFault } from '../core/errors.ts';
import { fingerprintOfPem, publicKeyOf } from '../keys/public-key.ts';
import { parsePrivateDer } from '../keys/rsa-numbers.ts';
import type { SealedBackup, SealedKey } from '../store/ops/check.ts';
import type { Store } from '../store/store.ts';
import type { Vault } from '../vault/vault.ts';

const AT_ONCE = 64;

/**
 * Every promise of the record, read anew: by its tables, and, with the vault, by opening whatever is sealed: each private
 * key has the public half on record, each backup the bytes that were hashed.
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
  return problems;
}

/** @param ask for the items that come after a number */
async function* inPages<T>(
  ask: (after: number) => Promise<readonly T[]>,
  numberOf: (item: T) => number,
): AsyncGenerator<readonly T[], void> {
  for (let after = 0; ;) {
    const page = await ask(after);
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    after = numberOf(last);
  }
}

async function keyProblem(key: SealedKey, vault: Pick<Vault, 'open'> | null): Promise<string | null> {
  const { deviceId, generation, fingerprint, publicPem, sealedPrivate } = key;
  const name = `key ${generation} of ${deviceId}`;
  if (fingerprintOfPem(publicPem) !== fingerprint) return `${name}: its public key is not the one of its fingerprint`;
  if (vault === null || sealedPrivate === null) return null;
  try {
    const privateDer = await vault.open(sealedPrivate, { purpose: 'private-key', deviceId, generation, fingerprint });
    const numbers = parsePrivateDer(privateDer)?.numbers;
    wipe(privateDer);
    const same = numbers !== undefined && publicKeyOf(numbers.n, numbers.e).fingerprint === fingerprint;
    return same ? null : `${name}: the sealed private key is not its other half`;
  } catch (error) {
    return `${name}: ${toFault(error).message}`;
  }
}

async function backupProblem(backup: SealedBackup, vault: Pick<Vault, 'open'>): Promise<string | null> {
  const { backupId, deviceId, sha256, bytes, fingerprint, sealed } = backup;
  const name = `backup ${backupId} of ${deviceId}`;
  try {
    const plain = await vault.open(sealed, { purpose: 'backup', deviceId, generation: null, fingerprint });
    const same = plain.length === bytes && sha256Hex(plain) === sha256;
    wipe(plain);
    return same ? null : `${name}: its bytes are not those that were hashed`;
  } catch (error) {
    return `${name}: ${toFault(error).message}`;
  }
}
