import type { Config } from '../config/config.ts';
import { wipe } from '../core/bytes.ts';
import { systemClock } from '../core/clock.ts';
import { Fault, toFault } from '../core/errors.ts';
import { databaseExists } from '../store/database-file.ts';
import type { SealedBackup, SealedKey } from '../store/ops/check.ts';
import type { SealedAnew } from '../store/ops/vault.ts';
import type { Store } from '../store/store.ts';
import { makeIdentity, readIdentity } from '../vault/identity-file.ts';
import { describeBinding, sameBinding } from '../vault/policy.ts';
import type { Binding } from '../vault/policy.ts';
import { vaultOf } from '../vault/vault.ts';
import type { Vault } from '../vault/vault.ts';
import { inPages, openBackup, openKey } from './check-record.ts';
import { compareWithCopies } from './audit-checkpoint.ts';
import type { CommandContext } from './command.ts';
import {
  closedVault,
  identityByHand,
  identityPath,
  openRecord,
  openedVault,
  openRecordForWork,
  stationIdentity,
  workingOf,
} from './compose.ts';
import type { StationVault } from './compose.ts';
import { EXIT } from './exit-codes.ts';
import { checkWish, chosen, wishOf } from './vault-choice.ts';

const AT_ONCE = 64;
const TELL_EVERY = 1000;

/**
 * `vault rewrap`: everything that is sealed is opened, checked against its row, and sealed to other recipients. All of it is
 * opened once before the first item changes, so that a wrong identity or a damaged item changes nothing. Then it goes page
 * by page, each in a transaction with the mark of how far it is, and the binding changes last: what was cut goes on there.
 * What an open write needs is sealed to the working identity of its run as well.
 */
export async function rewrapVault(
  config: Config,
  identityFile: string | undefined,
  context: CommandContext,
): Promise<number> {
  const { out } = context;
  checkWish(config);
  // A record that is not there is a fault, and is not made.
  const there = databaseExists(config.values.db);
  await using store = await (there ? openRecordForWork(config, context.env, false) : openRecord(config));
  await compareWithCopies(config, store);
  const { bound, rewrap } = await store.call('vaultState', undefined);
  if (!bound) {
    throw new Fault('VAULT_POLICY', 'nothing is sealed in this database yet', {
      hint: '`photon-fleet vault init` binds how it is to be sealed',
    });
  }
  const { binding: wanted, warnings } = chosen(wishOf(config), rewrap ?? bound);
  if (rewrap && (wanted.policy !== rewrap.policy || (wanted.policy === 'escrow' && !sameBinding(wanted, rewrap)))) {
    throw new Fault('VAULT_POLICY', `a rewrap to ${describeBinding(rewrap)} was begun and has not come to its end`, {
      hint: 'let that one come to its end first: ask for the same policy and recipients again',
    });
  }
  const counts = await store.call('sealedCounts', undefined);
  if ((wanted.policy === 'none') !== (bound.policy === 'none') && counts.keys + counts.backups > 0) {
    const [what, why] =
      bound.policy === 'none'
        ? ['can’t be opened by anybody', 'private keys were not kept']
        : ['would be lost', 'with the policy `none` there is nobody to seal to'];
    throw new Fault('VAULT_POLICY', `what is sealed in this database ${what}: ${why}`, {
      hint: 'begin a new database for the other policy: `photon-fleet vault init --db FILE`',
    });
  }
  for (const warning of warnings) out.talk(`warning: ${warning}`);
  const opener = bound.policy === 'none' ? null : await openerOf(config, store, bound, identityFile);
  const items = new Items(store, opener, { keys: rewrap?.keysThrough ?? 0, backups: rewrap?.backupsThrough ?? 0 });
  await items.lookAtAll();
  const { binding, vault } = await sealerOf(config, store, wanted, rewrap);
  if (!rewrap) {
    await store.call('beginRewrap', { ...binding, at: systemClock.now() });
    if (counts.prepared > 0)
      out.talk(`${counts.prepared} prepared key pairs are discarded: \`keys prepare\` makes others`);
  }
  const count = await items.sealAnew(vault, done => out.talk(`${done} keys and backups sealed anew`));
  await store.call('endRewrap', undefined);
  for (const problem of await vault.tidy()) out.talk(`warning: ${problem}`);
  out.result(
    `${config.values.db}: ${count} keys and backups are sealed anew; the vault is ${describeBinding(binding)}`,
  );
  sayWhatIsLeft(config, bound, binding, context);
  return EXIT.OK;
}

function sayWhatIsLeft(config: Config, before: Binding, now: Binding, { out }: CommandContext): void {
  const gone = before.recipients.filter(recipient => !now.recipients.includes(recipient));
  if (before.policy === 'local' && gone.length > 0) {
    const file = now.policy === 'local' ? 'the old identity file' : `the old identity file ${identityPath(config)}`;
    out.talk(
      `remove ${file} by hand, here and wherever a copy of it is kept: it still opens the copies of this database ` +
        'that were made before, and what the disk still holds of the old items',
    );
  }
  if (config.sourceOf('vault.policy') === 'flag' || config.sourceOf('vault.recipients') === 'flag') {
    out.talk('if the configuration names `vault.policy` or `vault.recipients`, it has to say the same from now on');
  }
}

/** Who opens what is sealed so far: the identity that was named, else the station's own. */
async function openerOf(
  config: Config,
  store: Store,
  bound: Binding,
  identityFile: string | undefined,
): Promise<Vault> {
  if (identityFile !== undefined) return vaultOf(await identityByHand(identityFile, bound));
  if (bound.policy === 'local') return vaultOf(await stationIdentity(config, store));
  throw new Fault('VAULT_CLOSED', `the vault is ${describeBinding(bound)}: this station can't open it`, {
    hint: 'name a file with the identity of one of these recipients: --identity FILE',
  });
}

/** The vault that is to be; with `local` its identity is made where there is none. */
async function sealerOf(
  config: Config,
  store: Store,
  wanted: Binding,
  rewrap: Binding | null,
): Promise<{ binding: Binding; vault: StationVault }> {
  const working = workingOf(config, store);
  if (wanted.policy !== 'local') return { binding: wanted, vault: closedVault(wanted, working, null) };
  const path = identityPath(config);
  const there = await readIdentity(path);
  if (rewrap && !rewrap.recipients.includes(there?.recipient ?? '')) {
    throw new Fault('VAULT_IDENTITY', `the identity file ${path} is not the one that the rewrap was begun with`);
  }
  const identity = there ?? (await makeIdentity(path));
  return { binding: { policy: 'local', recipients: [identity.recipient] }, vault: openedVault(identity, working) };
}

/** Everything that is sealed, after what an earlier rewrap has done. */
class Items {
  readonly #store: Store;
  readonly #opener: Vault | null;
  readonly #after: { readonly keys: number; readonly backups: number };

  /** @param opener null: nobody can open what is there, so it is left as it is */
  constructor(store: Store, opener: Vault | null, after: { keys: number; backups: number }) {
    this.#store = store;
    this.#opener = opener;
    this.#after = after;
  }

  /** @throws Fault VAULT_SEALED_WRONG, which names the item */
  async lookAtAll(): Promise<void> {
    for await (const page of this.#keys()) for (const key of page) wipe((await this.#openKey(key)) ?? undefined);
    for await (const page of this.#backups()) for (const backup of page) wipe(await this.#openBackup(backup));
  }

  async sealAnew(vault: StationVault, onProgress: (done: number) => void): Promise<number> {
    const inUse = await this.#store.call('itemsInUse', undefined);
    const keyRuns = new Map(inUse.keys.map(({ keyId, runId }) => [keyId, runId]));
    const backupRuns = new Map(inUse.backups.map(({ backupId, runId }) => [backupId, runId]));
    const sealerFor = (runId: number | undefined): Vault => (runId === undefined ? vault : vault.forRun(runId));
    let done = 0;
    const keep = async (table: 'keys' | 'backups', items: SealedAnew[], through: number): Promise<void> => {
      await this.#store.call('resealPage', { table, items, through });
      const before = done;
      done += items.length;
      if (Math.floor(done / TELL_EVERY) > Math.floor(before / TELL_EVERY)) onProgress(done);
    };
    for await (const page of this.#keys()) {
      const items: SealedAnew[] = [];
      for (const key of page) {
        const plain = await this.#openKey(key);
        if (!plain) continue;
        const { keyId: id, deviceId, generation, fingerprint, at, sealedSha256: insteadOf } = key;
        const about = { purpose: 'private-key', deviceId, generation, fingerprint, at } as const;
        const sealed = await sealerFor(keyRuns.get(id))
          .seal(plain, about)
          .finally(() => wipe(plain));
        items.push({ id, insteadOf: insteadOf ?? '', sealed });
      }
      await keep('keys', items, page.at(-1)?.keyId ?? 0);
    }
    for await (const page of this.#backups()) {
      const items: SealedAnew[] = [];
      for (const backup of page) {
        const plain = await this.#openBackup(backup);
        const { backupId: id, deviceId, fingerprint, at, sealedSha256: insteadOf } = backup;
        const about = { purpose: 'backup', deviceId, generation: null, fingerprint, at } as const;
        const sealed = await sealerFor(backupRuns.get(id))
          .seal(plain, about)
          .finally(() => wipe(plain));
        items.push({ id, insteadOf, sealed });
      }
      await keep('backups', items, page.at(-1)?.backupId ?? 0);
    }
    return done;
  }

  #keys(): AsyncGenerator<readonly SealedKey[], void> | readonly [] {
    if (!this.#opener) return [];
    return inPages(
      afterKeyId => this.#store.call('sealedKeys', { afterKeyId, limit: AT_ONCE }),
      ({ keyId }) => keyId,
      this.#after.keys,
    );
  }

  #backups(): AsyncGenerator<readonly SealedBackup[], void> | readonly [] {
    if (!this.#opener) return [];
    return inPages(
      afterBackupId => this.#store.call('sealedBackups', { afterBackupId, limit: AT_ONCE }),
      ({ backupId }) => backupId,
      this.#after.backups,
    );
  }

  async #openKey(key: SealedKey): Promise<Buffer | null> {
    return await named(
      `key ${key.generation} of ${key.deviceId}`,
      async opener => await openKey(key, opener),
      this.#opener,
    );
  }

  async #openBackup(backup: SealedBackup): Promise<Buffer> {
    const name = `backup ${backup.backupId} of ${backup.deviceId}`;
    return await named(name, async opener => await openBackup(backup, opener), this.#opener);
  }
}

async function named<T>(name: string, open: (opener: Vault) => Promise<T>, opener: Vault | null): Promise<T> {
  if (!opener) throw new Fault('BUG', 'an item would be opened by nobody');
  try {
    return await open(opener);
  } catch (error) {
    const fault = toFault(error);
    throw new Fault(fault.code, `${name}: ${fault.message}; nothing more was changed`, {
      hint: fault.hint,
      cause: fault,
    });
  }
}
