import { sha256Hex } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { IS_OPEN } from './open-writes.ts';
import { discardPreparedKeys } from './prepared-keys.ts';

/*
 * What the record says of the vault: the policy and the recipients that it is bound to, the working identities, and a
 * rewrap that is under way. What the policies mean is the vault's own business (vault/policy.ts).
 */

interface Binding {
  readonly policy: 'local' | 'escrow' | 'none';
  readonly recipients: readonly string[];
}

/** Where a rewrap has come to: everything up to these numbers is sealed anew. The binding changes at its end. */
export interface Rewrap extends Binding {
  readonly keysThrough: number;
  readonly backupsThrough: number;
}

export interface VaultState {
  /** null until the vault is first used. */
  readonly bound: Binding | null;
  readonly rewrap: Rewrap | null;
}

export function vaultState(db: Db): VaultState {
  const row = db.get<{ policy: Binding['policy'] | null; recipients: string | null; rewrap: string | null }>(
    'SELECT vault_policy AS policy, vault_recipients AS recipients, vault_rewrap AS rewrap FROM station',
  );
  if (!row) throw new Fault('RECORD_INVALID', 'the database has no station');
  const { policy, recipients, rewrap } = row;
  return {
    bound: policy === null ? null : { policy, recipients: JSON.parse(recipients ?? '[]') as string[] },
    rewrap: rewrap === null ? null : (JSON.parse(rewrap) as Rewrap),
  };
}

/** Puts down how the vault seals, once; whether a later wish fits is asked before. */
export function bindVault(db: Db, binding: Binding): void {
  if (vaultState(db).bound !== null) return;
  setBinding(db, binding);
}

function setBinding(db: Db, { policy, recipients }: Binding): void {
  db.change(
    'UPDATE station SET recipient = ?, vault_policy = ?, vault_recipients = ?, vault_rewrap = NULL',
    policy === 'local' ? (recipients[0] ?? null) : null,
    policy,
    JSON.stringify(recipients),
  );
}

export function noteWorkingIdentity(db: Db, working: { recipient: string; runId: number | null; at: number }): void {
  db.run(
    'INSERT INTO working_identities (recipient, run_id, made_at) VALUES (?, ?, ?)',
    working.recipient,
    working.runId,
    working.at,
  );
}

/** Those that are not destroyed, and whether something that was begun may still have to be opened with them. */
export function workingIdentities(
  db: Db,
): { recipient: string; runId: number | null; madeAt: number; inUse: boolean }[] {
  return db
    .all<{ recipient: string; runId: number | null; madeAt: number; inUse: number }>(
      `WITH begun (run_id) AS (
         SELECT attempts.run_id FROM writes JOIN attempts ON attempts.id = writes.attempt_id
          WHERE ${IS_OPEN}
         UNION
         SELECT attempts.run_id FROM writes JOIN backups ON backups.id = writes.backup_id
           JOIN attempts ON attempts.id = backups.attempt_id
          WHERE ${IS_OPEN})
       SELECT recipient, run_id AS runId, made_at AS madeAt,
              CASE WHEN run_id IS NULL THEN EXISTS (SELECT 1 FROM prepared_keys WHERE taken_at IS NULL)
                   ELSE run_id IN (SELECT run_id FROM begun) END AS inUse
         FROM working_identities WHERE destroyed_at IS NULL ORDER BY run_id, made_at`,
    )
    .map(row => ({ ...row, inUse: row.inUse === 1 }));
}

export function noteWorkingIdentityDestroyed(db: Db, { recipient, at }: { recipient: string; at: number }): void {
  db.change(
    'UPDATE working_identities SET destroyed_at = ? WHERE recipient = ? AND destroyed_at IS NULL',
    at,
    recipient,
  );
}

/** How much is sealed. */
export function sealedCounts(db: Db): { keys: number; backups: number; prepared: number } {
  const counts = db.get<{ keys: number; backups: number; prepared: number }>(
    `SELECT (SELECT count(*) FROM keys WHERE sealed_private IS NOT NULL) AS keys, (SELECT count(*) FROM backups) AS backups,
            (SELECT count(*) FROM prepared_keys WHERE taken_at IS NULL) AS prepared`,
  );
  return counts ?? { keys: 0, backups: 0, prepared: 0 };
}

/** The items that a write which is not finished may need, each with the run whose working identity opens it. */
export function itemsInUse(db: Db): {
  keys: { keyId: number; runId: number }[];
  backups: { backupId: number; runId: number }[];
} {
  return {
    keys: db.all(
      `SELECT writes.key_id AS keyId, attempts.run_id AS runId FROM writes JOIN attempts ON attempts.id = writes.attempt_id
        WHERE writes.key_id IS NOT NULL AND ${IS_OPEN}`,
    ),
    backups: db.all(
      `SELECT writes.backup_id AS backupId, attempts.run_id AS runId FROM writes
         JOIN backups ON backups.id = writes.backup_id JOIN attempts ON attempts.id = backups.attempt_id
        WHERE ${IS_OPEN}`,
    ),
  };
}

/** From here on a rewrap is under way, and goes on where it was cut. What was prepared for the old recipients goes. */
export function beginRewrap(db: Db, { policy, recipients, at }: Binding & { readonly at: number }): void {
  discardPreparedKeys(db, { at });
  const rewrap: Rewrap = { policy, recipients, keysThrough: 0, backupsThrough: 0 };
  db.change('UPDATE station SET vault_rewrap = ? WHERE vault_rewrap IS NULL', JSON.stringify(rewrap));
}

export interface SealedAnew {
  readonly id: number;
  /** Of the sealed bytes that these come for. */
  readonly insteadOf: string;
  readonly sealed: Uint8Array;
}

/** One page of a rewrap: the items sealed anew and how far it is, in one transaction. */
export function resealPage(
  db: Db,
  page: { table: 'keys' | 'backups'; items: readonly SealedAnew[]; through: number },
): void {
  const { rewrap } = vaultState(db);
  if (rewrap === null) throw new Error('no rewrap is under way');
  const column = page.table === 'keys' ? 'sealed_private' : 'sealed';
  for (const { id, insteadOf, sealed } of page.items) {
    db.change(
      `UPDATE ${page.table} SET ${column} = ?, sealed_sha256 = ? WHERE id = ? AND sealed_sha256 = ?`,
      sealed,
      sha256Hex(sealed),
      id,
      insteadOf,
    );
  }
  const through = { [`${page.table}Through`]: page.through };
  db.change('UPDATE station SET vault_rewrap = ?', JSON.stringify({ ...rewrap, ...through }));
}

/** The new binding holds, and the rewrap is over. */
export function endRewrap(db: Db): void {
  const { rewrap } = vaultState(db);
  if (rewrap === null) throw new Error('no rewrap is under way');
  setBinding(db, rewrap);
}
