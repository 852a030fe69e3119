import type { Config } from '../config/config.ts';
import { Fault } from '../core/errors.ts';
import { databaseExists } from '../store/database-file.ts';
import { checkRecipients, describeBinding, sameBinding } from '../vault/policy.ts';
import type { Binding, VaultPolicy } from '../vault/policy.ts';

/** What is asked of the vault; null where nothing is said, and what the database is bound to holds. */
export interface VaultWish {
  readonly policy: VaultPolicy | null;
  readonly recipients: readonly string[] | null;
}

/** A value that nobody gave says nothing: a database that was bound by `vault init` needs no configuration. */
export function wishOf(config: Config): VaultWish {
  const { policy, recipients } = config.values.vault;
  // One that was asked for by hand does away with the recipients of another one in the file.
  const unheeded =
    config.sourceOf('vault.policy') === 'flag' && policy !== 'escrow' && config.sourceOf('vault.recipients') !== 'flag';
  return {
    policy: config.sourceOf('vault.policy') === 'default' ? null : policy,
    recipients: recipients.length === 0 || unheeded ? null : recipients,
  };
}

/** As far as it can be told before the database is opened. @throws Fault VAULT_RECIPIENT */
export function checkWish(config: Config): void {
  const { policy, recipients } = wishOf(config);
  if (policy !== null) checkRecipients(policy, recipients ?? []);
  else if (recipients) checkRecipients(databaseExists(config.values.db) ? 'escrow' : 'local', recipients);
}

/**
 * How the vault is to seal: what is wished, else what the database is bound to, else `local`, whose one recipient only the
 * identity file knows.
 * @throws Fault VAULT_RECIPIENT
 */
export function chosen(wish: VaultWish, bound: Binding | null): { binding: Binding; warnings: readonly string[] } {
  const policy = wish.policy ?? bound?.policy ?? 'local';
  const followed = wish.policy === null && policy === 'escrow' ? bound?.recipients : undefined;
  const recipients = wish.recipients ?? followed ?? [];
  return { binding: { policy, recipients }, warnings: checkRecipients(policy, recipients) };
}

/** @throws Fault VAULT_POLICY where the database is bound otherwise, or is about to be */
export function checkBound(wanted: Binding, state: { bound: Binding | null; rewrap: Binding | null }): void {
  const { bound, rewrap } = state;
  if (rewrap) {
    throw new Fault('VAULT_POLICY', `a rewrap to ${describeBinding(rewrap)} was begun and has not come to its end`, {
      hint: 'begin it again: `photon-fleet vault rewrap` goes on where it was cut',
    });
  }
  // The recipient of `local` is that of the identity file, which is compared when that is read.
  const same = !bound || (wanted.policy === 'local' ? bound.policy === 'local' : sameBinding(wanted, bound));
  if (same) return;
  throw new Fault(
    'VAULT_POLICY',
    `this database's vault is ${describeBinding(bound)}, and the configuration says ${describeBinding(wanted)}`,
    { hint: 'set `vault.policy` and `vault.recipients` back, or seal everything anew: `photon-fleet vault rewrap`' },
  );
}
