import { sha256Hex } from '../../core/bytes.ts';
import type { DeviceId } from '../../core/device-id.ts';
import type { NewBackup } from '../../core/ledger.ts';
import type { Db } from '../db.ts';

export function beginAttempt(
  db: Db,
  attempt: { runId: number; deviceId: DeviceId; path: string; platform: string; bootloader: string; at: number },
): { attemptId: number } {
  db.run(
    `INSERT INTO devices (device_id, platform, bootloader, path, first_seen_at, last_seen_at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (device_id) DO UPDATE SET platform = excluded.platform, bootloader = excluded.bootloader,
       path = excluded.path, last_seen_at = excluded.last_seen_at`,
    attempt.deviceId,
    attempt.platform,
    attempt.bootloader,
    attempt.path,
    attempt.at,
    attempt.at,
  );
  const { id } = db.run(
    'INSERT INTO attempts (run_id, device_id, path, started_at) VALUES (?, ?, ?, ?)',
    attempt.runId,
    attempt.deviceId,
    attempt.path,
    attempt.at,
  );
  return { attemptId: id };
}

export function saveBackup(db: Db, backup: NewBackup): { backupId: number } {
  const { id } = db.run(
    `INSERT INTO backups (device_id, attempt_id, taken_at, sha256, bytes, classification, fingerprint, sealed, sealed_sha256)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    backup.deviceId,
    backup.attemptId,
    backup.takenAt,
    backup.sha256,
    backup.bytes,
    backup.classification,
    backup.fingerprint,
    backup.sealed,
    sha256Hex(backup.sealed),
  );
  return { backupId: id };
}
