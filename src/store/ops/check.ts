import type { DeviceId } from '../../core/device-id.ts';
import type { Db } from '../db.ts';

/*
 * Reads the record anew, by tables alone, and knows nothing of how it was written: what must hold of every record is a
 * query that gives a row for each place where it does not. The letters are the promises that a user is given:
 *
 *   A  a key on a device is recorded, ready to be sent, and its private half is sealed
 *   B  the cloud hears of no key older than the one on the device, and of one at a time
 *   C  what was recorded of backups, keys, attempts and sends neither changes nor goes
 */
const MUST_HOLD: readonly (readonly [says: string, sql: string])[] = [
  // A
  [
    'a made key without its sealed private half',
    `SELECT device_id AS what FROM keys WHERE origin = 'made' AND (sealed_private IS NULL OR length(sealed_private) = 0)`,
  ],
  [
    'a sealed private key other than that of its hash',
    `SELECT device_id AS what FROM keys WHERE sealed_sha256 IS NOT sha256_hex(sealed_private)`,
  ],
  [
    'a sealed backup other than that of its hash',
    `SELECT device_id AS what FROM backups WHERE sealed_sha256 IS NOT sha256_hex(sealed)`,
  ],
  [
    'a prepared key pair other than that of its hash',
    `SELECT fingerprint AS what FROM prepared_keys WHERE sealed IS NOT NULL AND sealed_sha256 IS NOT sha256_hex(sealed)`,
  ],
  [
    'a prepared key pair that is on a device, and was not taken',
    `SELECT prepared_keys.fingerprint AS what FROM prepared_keys JOIN keys ON keys.fingerprint = prepared_keys.fingerprint
      WHERE prepared_keys.taken_at IS NULL`,
  ],
  ['a key without a send', `SELECT device_id AS what FROM keys WHERE id NOT IN (SELECT key_id FROM sends)`],
  [
    'a send of another device than its key',
    `SELECT sends.device_id AS what FROM sends JOIN keys ON keys.id = sends.key_id
     WHERE sends.device_id <> keys.device_id`,
  ],
  [
    'an active key without a verification',
    `SELECT device_id AS what FROM keys WHERE state = 'active' AND verified_at IS NULL`,
  ],
  [
    'a key that is proven on its device, and not active',
    `SELECT writes.device_id AS what FROM writes JOIN keys ON keys.id = writes.key_id
      WHERE keys.state <> 'active' AND writes.phase IN ('verified', 'accepted', 'unknown', 'refused', 'rolling-back', 'left')
        AND writes.id = (SELECT max(id) FROM writes AS newest
                          WHERE newest.device_id = writes.device_id
                            AND coalesce(newest.key_id, newest.restored_backup_id) IS NOT NULL
                            AND newest.phase NOT IN ('prepared', 'writing'))`,
  ],
  ['an empty backup', `SELECT device_id AS what FROM backups WHERE length(sealed) = 0 OR bytes = 0`],
  [
    'a write without a backup or a key of its own device',
    `SELECT writes.device_id AS what FROM writes JOIN backups ON backups.id = writes.backup_id
       LEFT JOIN keys ON keys.id = writes.key_id
      WHERE backups.device_id <> writes.device_id OR keys.device_id <> writes.device_id`,
  ],
  [
    'a restored key that is in none of its device’s backups',
    `SELECT device_id AS what FROM keys WHERE origin = 'restored' AND NOT EXISTS (
       SELECT 1 FROM backups WHERE backups.device_id = keys.device_id AND backups.fingerprint = keys.fingerprint)`,
  ],
  [
    'a write that puts back a backup of another device, or another key than that of the backup',
    `SELECT writes.device_id AS what FROM writes JOIN backups ON backups.id = writes.restored_backup_id
       LEFT JOIN keys ON keys.id = writes.key_id
      WHERE backups.device_id <> writes.device_id OR backups.fingerprint IS NOT keys.fingerprint`,
  ],
  [
    'a module that was seen in an attempt at another device',
    `SELECT modules.device_id AS what FROM modules JOIN attempts ON attempts.id = modules.attempt_id
      WHERE attempts.device_id <> modules.device_id`,
  ],
  [
    'a flashing by an attempt at another device',
    `SELECT flashings.device_id AS what FROM flashings JOIN attempts ON attempts.id = flashings.attempt_id
      WHERE attempts.device_id <> flashings.device_id`,
  ],
  [
    'a flashing that is through, and a module of which was never seen whole',
    `SELECT flashings.device_id AS what FROM flashings, json_each(flashings.wanted) AS part
      WHERE flashings.state = 'whole' AND NOT EXISTS (
        SELECT 1 FROM modules WHERE modules.device_id = flashings.device_id AND modules.slot = part.key
           AND modules.state = 'whole' AND modules.sha256 = json_extract(part.value, '$.sha256'))`,
  ],
  // B
  [
    'a pending send of a key that is not on its device',
    `SELECT sends.device_id AS what FROM sends JOIN keys ON keys.id = sends.key_id
      WHERE sends.state = 'pending' AND keys.state <> 'active'`,
  ],
  [
    'a send that was held back of a key that is on its device',
    `SELECT sends.device_id AS what FROM sends JOIN keys ON keys.id = sends.key_id
      WHERE sends.state = 'held' AND keys.state = 'active'`,
  ],
  [
    'two sends of one device under way',
    `SELECT device_id AS what FROM sends WHERE lease_owner IS NOT NULL GROUP BY device_id HAVING count(*) > 1`,
  ],
  [
    'an accepted send without its time',
    `SELECT device_id AS what FROM sends WHERE state = 'accepted' AND accepted_at IS NULL`,
  ],
  [
    'two calls of one device under way',
    `SELECT device_id AS what FROM cloud_calls WHERE lease_owner IS NOT NULL GROUP BY device_id HAVING count(*) > 1`,
  ],
  // C
  [
    'a gap in the generations',
    `SELECT device_id AS what FROM keys GROUP BY device_id HAVING count(*) <> max(generation) OR min(generation) <> 1`,
  ],
  [
    'an attempt that ended without an outcome',
    `SELECT device_id AS what FROM attempts WHERE (outcome IS NULL) <> (ended_at IS NULL)`,
  ],
  [
    'a row that passed without an attempt',
    `SELECT device_id AS what FROM rows WHERE outcome = 'pass' AND NOT EXISTS (
       SELECT 1 FROM attempts WHERE attempts.device_id = rows.device_id AND attempts.run_id <= rows.run_id)`,
  ],
];

/** Their numbers run on without a gap, so a missing one was deleted. */
const NOTHING_GOES = [
  'runs',
  'attempts',
  'backups',
  'keys',
  'writes',
  'sends',
  'releases',
  'restores',
  'prepared_keys',
  'modules',
  'flashings',
  'cloud_calls',
] as const;

/** @returns every problem in words; none where the record is whole */
export function checkRecord(db: Db): string[] {
  const problems: string[] = [];
  const integrity = db.all<{ integrity_check: string }>('PRAGMA integrity_check');
  for (const { integrity_check: line } of integrity) if (line !== 'ok') problems.push(`SQLite: ${line}`);
  for (const row of db.all<{ table: string; rowid: number | null; parent: string }>('PRAGMA foreign_key_check')) {
    problems.push(`${row.table} ${row.rowid ?? '(no number)'} points at nothing in ${row.parent}`);
  }
  problems.push(...missingGuards(db));
  for (const table of NOTHING_GOES) {
    const found = db.get<{ there: number; made: number }>(
      `SELECT (SELECT count(*) FROM ${table}) AS there,
              coalesce((SELECT seq FROM sqlite_sequence WHERE name = '${table}'), 0) AS made`,
    );
    if (found && found.there !== found.made)
      problems.push(`${table}: ${found.made} were recorded, ${found.there} are there`);
  }
  for (const [says, sql] of MUST_HOLD) {
    for (const { what } of db.all<{ what: string }>(sql)) problems.push(`${says}: ${what}`);
  }
  return problems;
}

/** The schema's triggers and unique indexes, without which nothing keeps what was recorded as it is. */
function missingGuards(db: Db): string[] {
  const guards = new Map(
    db
      .all<{ name: string; sql: string }>(`SELECT name, sql FROM sqlite_schema WHERE type IN ('trigger', 'index')`)
      .map(({ name, sql }) => [name, sql]),
  );
  return db
    .guards()
    .filter(({ name, sql }) => guards.get(name) !== sql)
    .map(({ name }) => `the schema's guard ${name} is not as it should be`);
}

/** A key as it was sealed, for a check of what is in the vault. */
export interface SealedKey {
  readonly keyId: number;
  readonly deviceId: DeviceId;
  readonly generation: number;
  readonly fingerprint: string;
  readonly publicPem: string;
  /** null for a restored key, whose private half lies in a backup. */
  readonly sealedPrivate: Uint8Array | null;
  readonly sealedSha256: string | null;
  /** When it was made, as the sealed item itself says. */
  readonly at: number;
}

/** In pages: the first `limit` keys after `afterKeyId`. */
export function sealedKeys(db: Db, { afterKeyId, limit }: { afterKeyId: number; limit: number }): SealedKey[] {
  return db.all<SealedKey>(
    `SELECT id AS keyId, device_id AS deviceId, generation, fingerprint, public_pem AS publicPem,
            sealed_private AS sealedPrivate, sealed_sha256 AS sealedSha256, created_at AS at FROM keys WHERE id > ? ORDER BY id LIMIT ?`,
    afterKeyId,
    limit,
  );
}

/** A backup as it was sealed. */
export interface SealedBackup {
  readonly backupId: number;
  readonly deviceId: DeviceId;
  readonly sha256: string;
  readonly bytes: number;
  readonly fingerprint: string | null;
  readonly sealed: Uint8Array;
  readonly sealedSha256: string;
  /** When it was taken, as the sealed item itself says. */
  readonly at: number;
}

/** In pages: the first `limit` backups after `afterBackupId`. */
export function sealedBackups(
  db: Db,
  { afterBackupId, limit }: { afterBackupId: number; limit: number },
): SealedBackup[] {
  return db.all<SealedBackup>(
    `SELECT id AS backupId, device_id AS deviceId, sha256, bytes, fingerprint, sealed, sealed_sha256 AS sealedSha256,
            taken_at AS at FROM backups WHERE id > ? ORDER BY id LIMIT ?`,
    afterBackupId,
    limit,
  );
}
