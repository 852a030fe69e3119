import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { markOf } from './on-device.ts';

/*
 * Which key was on a device at a moment. What proves it are the moments at which somebody looked: a write that was read
 * back (or an earlier key that was put back so), a roll-back, a backup. Between two of them that show the same key it was
 * there all the time; after the last one it is what nobody has seen change; before the first one nothing is known.
 */

/** A moment at which it is certain what was on the device. */
export interface Proof {
  readonly at: number;
  readonly source: 'verified' | 'put-back' | 'rolled-back' | 'backup';
  readonly fingerprint: string | null;
  readonly classification: string;
  /** Of a key of this station. */
  readonly generation: number | null;
  /** The change of the key's state, or the backup, or the write that was taken back. */
  readonly id: number;
  readonly reason: string;
  readonly run: number | null;
}

export interface KeyAt {
  readonly deviceId: DeviceId;
  readonly time: number;
  /** `proven`: seen before and after, or until this station replaced it. `inferred`: nobody has seen it change. */
  readonly certainty: 'proven' | 'inferred' | 'unknown';
  /** Since when it was there without a break, as far as anybody saw; null: nobody had looked by then. */
  readonly since: Proof | null;
  /** The last look by then, and the first one after. */
  readonly lastSeen: Proof | null;
  readonly next: Proof | null;
  /** The first look that showed something else. */
  readonly until: Proof | null;
  /** Who did what `since` tells; null where the record is older than its journal. */
  readonly by: { readonly seq: number; readonly operator: string; readonly run: number | null } | null;
  /** A write that had been begun by then, and is not proven to this day. */
  readonly unproven: { readonly at: number; readonly fingerprint: string | null } | null;
  /** What a hand has said of the key since. */
  readonly mark: { readonly state: string; readonly why: string; readonly at: number } | null;
}

/** So many looks in a row are gone through for the beginning and the end of a key's time on its device. */
const LOOKS = 1000;

/** @throws Fault DEVICE_NOT_FOUND */
export function keyAt(db: Db, { deviceId, time }: { deviceId: DeviceId; time: number }): KeyAt {
  if (!db.get('SELECT 1 FROM devices WHERE device_id = ?', deviceId)) {
    throw new Fault('DEVICE_NOT_FOUND', `device ${deviceId} is not on record`);
  }
  const before = db.all<Proof>(proofs('<=', 'DESC'), { deviceId, time });
  const after = db.all<Proof>(proofs('>', 'ASC'), { deviceId, time });
  const [lastSeen = null] = before;
  const [next = null] = after;
  const unproven = unprovenWrite(db, deviceId, time);
  const since = lastSeen && streak(before, lastSeen);
  return {
    deviceId,
    time,
    certainty: certaintyOf(lastSeen, next, unproven !== null),
    since,
    lastSeen,
    next,
    until: lastSeen && (after.find(proof => !isSame(proof, lastSeen)) ?? null),
    by: since && whoDid(db, deviceId, since),
    unproven,
    mark: lastSeen?.fingerprint == null ? null : markOn(db, lastSeen.fingerprint),
  };
}

/** A backup comes before the write of its attempt, should both have one time. */
function proofs(compare: '<=' | '>', order: 'ASC' | 'DESC'): string {
  return `SELECT at, source, fingerprint, classification, generation, id, reason, run FROM (
      SELECT key_changes.at, 'verified' AS source, keys.fingerprint,
             coalesce(CASE keys.origin WHEN 'restored' THEN
               (SELECT classification FROM backups WHERE backups.device_id = keys.device_id
                   AND backups.fingerprint = keys.fingerprint ORDER BY backups.id DESC LIMIT 1) END, 'readable') AS classification,
             keys.generation, key_changes.id, key_changes.reason, 2 AS rank,
             (SELECT attempts.run_id FROM writes JOIN attempts ON attempts.id = writes.last_attempt_id
               WHERE writes.key_id = keys.id AND key_changes.reason LIKE '%verified on the device'
               ORDER BY writes.id DESC LIMIT 1) AS run
        FROM keys JOIN key_changes ON key_changes.key_id = keys.id
       WHERE keys.device_id = :deviceId AND key_changes.state = 'active' AND key_changes.at ${compare} :time
      UNION ALL
      SELECT writes.updated_at, 'put-back', backups.fingerprint, backups.classification, NULL, writes.id,
             'put back from backup ' || backups.id, 1, attempts.run_id
        FROM writes JOIN backups ON backups.id = writes.restored_backup_id
        LEFT JOIN attempts ON attempts.id = writes.last_attempt_id
       WHERE writes.device_id = :deviceId AND writes.key_id IS NULL AND writes.updated_at ${compare} :time
         AND writes.phase NOT IN ('prepared', 'writing', 'abandoned', 'rolled-back')
      UNION ALL
      SELECT writes.updated_at, 'rolled-back', backups.fingerprint, backups.classification, NULL, writes.id,
             'the write over it was taken back', 1, attempts.run_id
        FROM writes JOIN backups ON backups.id = writes.backup_id
        LEFT JOIN attempts ON attempts.id = writes.last_attempt_id
       WHERE writes.device_id = :deviceId AND writes.phase = 'rolled-back' AND writes.updated_at ${compare} :time
      UNION ALL
      SELECT backups.taken_at, 'backup', backups.fingerprint, backups.classification, NULL, backups.id,
             'found there by a backup', 0, attempts.run_id
        FROM backups JOIN attempts ON attempts.id = backups.attempt_id
       WHERE backups.device_id = :deviceId AND backups.taken_at ${compare} :time)
    ORDER BY at ${order}, rank ${order}, id ${order} LIMIT ${LOOKS}`;
}

/** Whether two looks showed the same. */
export function isSame(a: Proof, b: Proof): boolean {
  return a.fingerprint === b.fingerprint && (a.fingerprint !== null || a.classification === b.classification);
}

/** The first of the unbroken row of looks that ends with `last`, newest first: rather the write than a look at it. */
function streak(before: readonly Proof[], last: Proof): Proof {
  const broken = before.findIndex(proof => !isSame(proof, last));
  const row = before.slice(0, broken < 0 ? undefined : broken);
  return row.at(-1) ?? last;
}

function certaintyOf(last: Proof | null, next: Proof | null, isUnproven: boolean): KeyAt['certainty'] {
  if (!last) return 'unknown';
  if (!next) return 'inferred';
  // What this station writes, it writes over what its backup showed; anything else that a look shows may have come before.
  if (isSame(last, next) || next.source !== 'backup') return isUnproven ? 'inferred' : 'proven';
  return 'inferred';
}

function unprovenWrite(db: Db, deviceId: DeviceId, time: number): KeyAt['unproven'] {
  const found = db.get<{ at: number; fingerprint: string | null }>(
    `SELECT writes.updated_at AS at, keys.fingerprint FROM writes LEFT JOIN keys ON keys.id = writes.key_id
      WHERE writes.device_id = ? AND writes.phase IN ('writing', 'rolling-back') AND writes.updated_at <= ?`,
    deviceId,
    time,
  );
  return found ?? underWayThen(db, deviceId, time);
}

/** A write or a roll-back that was under way at that time, and has come to its end since, as the journal tells. */
function underWayThen(db: Db, deviceId: DeviceId, time: number): KeyAt['unproven'] {
  const last = db.get<{ event: string; at: string; fingerprint: string | null }>(
    `SELECT json_extract(body, '$.event') AS event, json_extract(body, '$.at') AS at,
            json_extract(body, '$.fingerprint') AS fingerprint
       FROM journal
      WHERE device_id = ? AND json_extract(body, '$.at') <= ? AND json_extract(body, '$.event') IN
            ('write-begun', 'written', 'roll-back-begun', 'rolled-back', 'write-abandoned')
      ORDER BY seq DESC LIMIT 1`,
    deviceId,
    new Date(time).toISOString(),
  );
  if (last?.event !== 'write-begun' && last?.event !== 'roll-back-begun') return null;
  return { at: Date.parse(last.at), fingerprint: last.fingerprint };
}

/** The rows that tell of a look in the journal, and what changed in one that was there before. */
const TOLD_IN: Readonly<Record<Proof['source'], readonly [table: string, phase: string | null]>> = {
  verified: ['key_changes', null],
  'put-back': ['writes', 'verified'],
  'rolled-back': ['writes', 'rolled-back'],
  backup: ['backups', null],
};

/** The journal's event that carries this very row. */
function whoDid(db: Db, deviceId: DeviceId, { source, id, run }: Proof): KeyAt['by'] {
  const [table, phase] = TOLD_IN[source];
  const found = db.get<{ seq: number; operator: string; run: number | null }>(
    `SELECT seq, json_extract(body, '$.operator') AS operator, json_extract(body, '$.run') AS run
       FROM journal
      WHERE device_id = :deviceId AND EXISTS (
        SELECT 1 FROM json_each(body, '$.set') AS told
         WHERE json_extract(told.value, '$[0]') = :table AND json_extract(told.value, '$[1].id') = :id
           AND (:phase IS NULL OR json_extract(told.value, '$[2].phase') = :phase))
      ORDER BY seq DESC LIMIT 1`,
    { deviceId, table, id, phase },
  );
  return found ? { ...found, run: found.run ?? run } : null;
}

function markOn(db: Db, fingerprint: string): KeyAt['mark'] {
  const mark = db.get<{ state: string; why: string; at: number }>(
    `SELECT state, why, marked_at AS at FROM key_marks
      WHERE fingerprint = :fingerprint AND state = ${markOf(':fingerprint')} ORDER BY id DESC LIMIT 1`,
    { fingerprint },
  );
  return mark ?? null;
}
