import type { DeviceId } from '../../core/device-id.ts';
import type { Db } from '../db.ts';

/** A key as it lies on a device, by the newest that the record knows of it. */
export interface OnDevice {
  /** null where it lies there in no form that has one. */
  readonly fingerprint: string | null;
  readonly classification: string;
  /** The active key of this station; null where a backup says what is there. */
  readonly keyId: number | null;
}

/** What a hand has said of a key in SQL: null, 'compromised', or 'destroyed', which outweighs it. */
export const markOf = (fingerprint: string): string =>
  `(SELECT max(key_marks.state) FROM key_marks WHERE key_marks.fingerprint = ${fingerprint})`;

interface KeyRow {
  readonly id: number;
  readonly fingerprint: string;
  readonly origin: string;
}

interface BackupRow {
  readonly attempt: number;
  readonly fingerprint: string | null;
  readonly classification: string;
}

/**
 * What is on the device now: its active key, or what was put back where that is no key, unless a backup that was taken
 * later shows something else there. Which came first is told by their attempts, since a clock may jump. null: nothing is
 * known of it.
 */
export function onDevice(db: Db, deviceId: DeviceId): OnDevice | null {
  const key = db.get<KeyRow>(
    `SELECT id, fingerprint, origin FROM keys WHERE device_id = ? AND state = 'active'`,
    deviceId,
  );
  const backup = db.get<BackupRow>(
    `SELECT attempt_id AS attempt, fingerprint, classification FROM backups WHERE device_id = ? ORDER BY id DESC LIMIT 1`,
    deviceId,
  );
  const proven = provenWrite(db, deviceId);
  if (backup && backup.attempt > (proven?.attempt ?? 0) && !(key && key.fingerprint === backup.fingerprint)) {
    return { fingerprint: backup.fingerprint, classification: backup.classification, keyId: null };
  }
  if (key) return { fingerprint: key.fingerprint, classification: classificationOf(db, deviceId, key), keyId: key.id };
  const there = proven?.restored == null ? backup : backupById(db, proven.restored);
  return there ? { fingerprint: there.fingerprint, classification: there.classification, keyId: null } : null;
}

/** The newest write that was proven on the device or taken back. */
function provenWrite(db: Db, deviceId: DeviceId): { attempt: number; restored: number | null } | undefined {
  return db.get(
    `SELECT last_attempt_id AS attempt, CASE phase WHEN 'rolled-back' THEN NULL ELSE restored_backup_id END AS restored
       FROM writes WHERE device_id = ? AND phase NOT IN ('prepared', 'writing', 'abandoned') ORDER BY id DESC LIMIT 1`,
    deviceId,
  );
}

/** The keys that are made here are readable; one that was put back is as it was found. */
function classificationOf(db: Db, deviceId: DeviceId, { fingerprint, origin }: KeyRow): string {
  if (origin === 'made') return 'readable';
  const found = db.get<{ classification: string }>(
    `SELECT classification FROM backups WHERE device_id = ? AND fingerprint = ? ORDER BY id DESC LIMIT 1`,
    deviceId,
    fingerprint,
  );
  return found?.classification ?? 'readable';
}

function backupById(db: Db, backupId: number): BackupRow | undefined {
  return db.get('SELECT attempt_id AS attempt, fingerprint, classification FROM backups WHERE id = ?', backupId);
}

export function isCompromised(db: Db, fingerprint: string | null): boolean {
  if (fingerprint === null) return false;
  const mark = db.get(`SELECT 1 FROM key_marks WHERE fingerprint = ? AND state = 'compromised'`, fingerprint);
  return mark !== undefined;
}

/** Whether what is on the device, or what is on record as its active key, is a key that is marked compromised. */
export function carriesCompromised(db: Db, deviceId: DeviceId): boolean {
  if (isCompromised(db, onDevice(db, deviceId)?.fingerprint ?? null)) return true;
  const active = db.get<{ fingerprint: string }>(
    `SELECT fingerprint FROM keys WHERE device_id = ? AND state = 'active'`,
    deviceId,
  );
  return isCompromised(db, active?.fingerprint ?? null);
}

/**
 * Which of these devices `run --only-compromised` is for: those that carry a compromised key, and those on which a write
 * over one was begun and is not through, or not settled in the run that is to be resumed.
 */
export function compromisedDevices(
  db: Db,
  query: { job: string; manifest: string; deviceIds: readonly DeviceId[] },
): DeviceId[] {
  if (!db.get(`SELECT 1 FROM key_marks LIMIT 1`)) return [];
  const run = db.get<{ id: number }>(
    `SELECT id FROM runs WHERE job = ? AND manifest = ? AND state <> 'finished' ORDER BY id DESC LIMIT 1`,
    query.job,
    query.manifest,
  );
  return query.deviceIds.filter(
    deviceId => carriesCompromised(db, deviceId) || isReplacingCompromised(db, deviceId, run?.id ?? null),
  );
}

function isReplacingCompromised(db: Db, deviceId: DeviceId, runId: number | null): boolean {
  const newest = db.get<{ phase: string; fingerprint: string | null; isRowOpen: number }>(
    `SELECT writes.phase, backups.fingerprint,
            EXISTS (SELECT 1 FROM rows WHERE rows.device_id = writes.device_id AND rows.run_id = ?
                       AND (rows.outcome IS NULL OR rows.outcome = 'aborted')) AS isRowOpen
       FROM writes JOIN backups ON backups.id = writes.backup_id
      WHERE writes.device_id = ? AND writes.key_id IS NOT NULL ORDER BY writes.id DESC LIMIT 1`,
    runId,
    deviceId,
  );
  if (!newest || !isCompromised(db, newest.fingerprint)) return false;
  if (newest.phase === 'left') return newest.isRowOpen === 1;
  return newest.phase !== 'rolled-back' && newest.phase !== 'abandoned';
}
