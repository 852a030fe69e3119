import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { markOf, onDevice } from './on-device.ts';
import { IS_OPEN } from './open-writes.ts';
import { openRun } from './runs.ts';
import type { OpenedRun } from './runs.ts';

/** The job's name in the record. */
const RESTORE_JOB = 'restore';

/** A backup as it may be chosen. */
export interface KnownBackup {
  readonly backupId: number;
  readonly takenAt: number;
  readonly sha256: string;
  readonly bytes: number;
  readonly classification: string;
  /** null where it holds no key that can be read. */
  readonly fingerprint: string | null;
  /** What a hand has said of its key: `compromised` or `destroyed`. */
  readonly mark: string | null;
}

export interface Restorable {
  /** Of the key that the record says is on the device. */
  readonly activeFingerprint: string | null;
  /** The backup of a restore that was begun and has not come to its end, unless the device was worked on since. */
  readonly begun: number | null;
  /** The product that the device was last sent under. */
  readonly productId: string | null;
  /** Oldest first. */
  readonly backups: readonly KnownBackup[];
}

/** What can be put back on a device. @throws Fault DEVICE_NOT_FOUND */
export function restorable(db: Db, deviceId: DeviceId): Restorable {
  if (!db.get('SELECT 1 FROM devices WHERE device_id = ?', deviceId)) {
    throw new Fault('DEVICE_NOT_FOUND', `device ${deviceId} is not on record`);
  }
  const newest = db.get<{ product_id: string | null }>(
    'SELECT product_id FROM sends WHERE device_id = ? ORDER BY id DESC LIMIT 1',
    deviceId,
  );
  const begun = db.get<{ backup_id: number }>(
    `SELECT backup_id FROM restores JOIN runs ON runs.id = restores.run_id
      WHERE restores.id = (SELECT max(id) FROM restores WHERE device_id = :deviceId)
        AND (runs.state <> 'finished' OR EXISTS (
               SELECT 1 FROM writes WHERE device_id = :deviceId AND restored_backup_id = backup_id
                  AND ${IS_OPEN}))
        AND NOT EXISTS (SELECT 1 FROM attempts WHERE device_id = :deviceId AND attempts.run_id > restores.run_id)`,
    { deviceId },
  );
  return {
    activeFingerprint: onDevice(db, deviceId)?.fingerprint ?? null,
    begun: begun?.backup_id ?? null,
    productId: newest?.product_id ?? null,
    backups: db.all<KnownBackup>(
      `SELECT id AS backupId, taken_at AS takenAt, sha256, bytes, classification, fingerprint,
              ${markOf('backups.fingerprint')} AS mark
         FROM backups WHERE device_id = ? ORDER BY id`,
      deviceId,
    ),
  };
}

/**
 * A run over this one device, and why, in one transaction. One that was cut short is taken up again; one that came to its
 * end settles nothing, since whoever asks again means it.
 */
export function openRestore(
  db: Db,
  restore: {
    deviceId: DeviceId;
    backupId: number;
    /** Of the backup. */
    sha256: string;
    productId: string | null;
    why: string | null;
    at: number;
  },
): OpenedRun & { readonly manifest: string } {
  const { deviceId, backupId, at } = restore;
  const manifest = `backup ${backupId} of ${deviceId}`;
  const unfinished = db.get(
    `SELECT 1 FROM runs JOIN rows ON rows.run_id = runs.id
      WHERE runs.job = ? AND runs.manifest = ? AND runs.state <> 'finished'
        AND (rows.outcome IS NULL OR rows.outcome <> 'pass')`,
    RESTORE_JOB,
    manifest,
  );
  const opened = openRun(db, {
    job: RESTORE_JOB,
    manifest,
    manifestSha256: restore.sha256,
    rows: [{ deviceId, line: 1, port: null, name: null, productId: restore.productId, extra: {} }],
    again: unfinished === undefined,
    retryFailed: true,
    at,
  });
  db.run(
    'INSERT INTO restores (device_id, backup_id, run_id, why, asked_at) VALUES (?, ?, ?, ?, ?)',
    deviceId,
    backupId,
    opened.runId,
    restore.why,
    at,
  );
  return { ...opened, manifest };
}
