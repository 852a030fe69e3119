import { Fault } from '../core/errors.ts';
import { recipientOf } from './x25519.ts';

/**
 * How private material is kept:
 *
 *   local   sealed to the station's own identity, which lies beside the database; nothing has to be set up
 *   escrow  sealed to recipients whose identities are kept elsewhere: the station seals, and can't open
 *   none    private keys are not kept, nor backups, which hold the keys before them
 *
 * With escrow and none, what a run seals is sealed to the run's working identity as well (working-identities.ts).
 */
export const VAULT_POLICIES = ['local', 'escrow', 'none'] as const;
export type VaultPolicy = (typeof VAULT_POLICIES)[number];

/** What a database is bound to. The recipients of `local` are the station's one, those of `none` none. */
export interface Binding {
  readonly policy: VaultPolicy;
  readonly recipients: readonly string[];
}

const ENOUGH_RECIPIENTS = 2;

/**
 * Looks at the recipients that a policy is given, before anything is touched.
 * @returns what is worth a warning
 * @throws Fault VAULT_RECIPIENT, by the position of the one that is wrong: what stands there may be anything
 */
export function checkRecipients(policy: VaultPolicy, recipients: readonly string[]): string[] {
  for (const [index, recipient] of recipients.entries()) {
    try {
      recipientOf(recipient);
    } catch {
      throw new Fault('VAULT_RECIPIENT', `recipient ${index + 1} of ${recipients.length} is no age recipient`, {
        hint: 'its checksum is wrong: copy it anew, from `age1` to its end',
      });
    }
  }
  const count = new Set(recipients).size;
  if (policy !== 'escrow') {
    if (count === 0) return [];
    throw new Fault('VAULT_RECIPIENT', `recipients are named, and the vault's policy is \`${policy}\``, {
      hint: 'recipients are for the policy `escrow`: set `vault.policy: escrow`, or take them out',
    });
  }
  if (count === 0) throw new Fault('VAULT_RECIPIENT', 'the policy `escrow` has no recipient to seal to');
  return count < ENOUGH_RECIPIENTS
    ? ['everything is sealed to one recipient: if its identity is lost, so is everything; name two']
    : [];
}

export function sameBinding(a: Binding, b: Binding): boolean {
  const [one, other] = [new Set(a.recipients), new Set(b.recipients)];
  return a.policy === b.policy && one.size === other.size && [...one].every(recipient => other.has(recipient));
}

/** For messages. */
export function describeBinding({ policy, recipients }: Binding): string {
  return recipients.length === 0 ? `\`${policy}\`` : `\`${policy}\` to ${recipients.join(', ')}`;
}
