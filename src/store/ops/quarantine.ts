import type { DeviceId } from '../../core/device-id.ts';
import { DEVICE_ERRORS, Fault } from '../../core/errors.ts';
import type { Failures } from '../../core/outcomes.ts';
import type { Db } from '../db.ts';

/*
 * A device that failed too often is left alone. What counts are the attempts on record that it ended badly, in whichever
 * run and under whichever manifest: those after its last pass in which it was written, and after its last release. One
 * that was cut short by a crash has no outcome and does not count.
 */

interface FailedAttempt {
  path: string;
  code: string | null;
}

function failedAttempts(db: Db, deviceId: DeviceId): FailedAttempt[] {
  return db.all<FailedAttempt>(
    `SELECT path, code FROM attempts
      WHERE device_id = :deviceId
        AND (outcome = 'fail' OR (outcome = 'error' AND code IN (SELECT value FROM json_each(:deviceErrors))))
        AND id > coalesce((SELECT max(after_attempt) FROM releases WHERE device_id = :deviceId), 0)
        AND id > coalesce((SELECT max(last_attempt_id) FROM writes JOIN attempts AS passed ON passed.id = last_attempt_id
                            WHERE writes.device_id = :deviceId AND passed.outcome = 'pass'), 0)
      ORDER BY id`,
    { deviceId, deviceErrors: JSON.stringify(DEVICE_ERRORS) },
  );
}

/** @param after so many failures quarantine a device; 0: none do. null where it has none */
export function failuresOf(db: Db, { deviceId, after }: { deviceId: DeviceId; after: number }): Failures | null {
  const failed = failedAttempts(db, deviceId);
  const newest = failed.at(-1);
  if (!newest) return null;
  return {
    count: failed.length,
    code: newest.code,
    paths: [...new Set(failed.map(({ path }) => path))],
    quarantined: after > 0 && failed.length >= after,
  };
}

/** Whether a hand has released the device since anybody last worked on it: then its failure settles nothing. */
export function releasedSince(db: Db, deviceId: DeviceId): boolean {
  const found = db.get(
    `SELECT 1 FROM releases WHERE device_id = :deviceId
        AND after_attempt >= (SELECT max(id) FROM attempts WHERE device_id = :deviceId)`,
    { deviceId },
  );
  return found !== undefined;
}

/**
 * Lets a device take part again.
 * @returns how many failures count no more; with 0 nothing was to be released, and nothing is put on record
 * @throws Fault DEVICE_NOT_FOUND
 */
export function releaseDevice(
  db: Db,
  { deviceId, why, at }: { deviceId: DeviceId; why: string | null; at: number },
): { failures: number } {
  const newest = db.get<{ id: number | null }>('SELECT max(id) AS id FROM attempts WHERE device_id = ?', deviceId)?.id;
  if (newest === undefined || newest === null) {
    throw new Fault('DEVICE_NOT_FOUND', `device ${deviceId} is not on record`);
  }
  const failures = failedAttempts(db, deviceId).length;
  if (failures > 0) {
    db.run(
      'INSERT INTO releases (device_id, after_attempt, why, released_at) VALUES (?, ?, ?, ?)',
      deviceId,
      newest,
      why,
      at,
    );
  }
  return { failures };
}
