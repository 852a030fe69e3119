import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { failuresOf } from './quarantine.ts';

export interface DeviceHistory {
  readonly deviceId: DeviceId;
  readonly keys: readonly {
    readonly generation: number;
    readonly fingerprint: string;
    readonly algorithm: string;
    readonly bits: number;
    readonly state: string;
    readonly createdAt: number;
    readonly verifiedAt: number | null;
    readonly cloud: {
      readonly state: string;
      readonly attempts: number;
      readonly lastError: string | null;
      readonly acceptedAt: number | null;
    };
  }[];
  readonly backups: readonly {
    readonly id: number;
    readonly takenAt: number;
    readonly sha256: string;
    readonly bytes: number;
    readonly classification: string;
    readonly fingerprint: string | null;
  }[];
  /** Failed attempts that count, and every time that a hand let the device take part again. */
  readonly failures: number;
  readonly releases: readonly { readonly releasedAt: number; readonly why: string | null }[];
  readonly attempts: readonly {
    readonly run: number;
    readonly outcome: string | null;
    readonly code: string | null;
    readonly path: string;
    readonly startedAt: number;
    readonly endedAt: number | null;
    readonly steps: readonly { readonly name: string; readonly state: string; readonly ms: number }[];
  }[];
}

/** Every key, backup, attempt and send of one device, oldest first. */
export function deviceHistory(db: Db, deviceId: DeviceId): DeviceHistory {
  if (!db.get('SELECT 1 FROM devices WHERE device_id = ?', deviceId)) {
    throw new Fault('DEVICE_NOT_FOUND', `device ${deviceId} is not on record`);
  }
  const keys = db.all<{
    generation: number;
    fingerprint: string;
    algorithm: string;
    bits: number;
    state: string;
    createdAt: number;
    verifiedAt: number | null;
    sendState: string;
    attempts: number;
    lastError: string | null;
    acceptedAt: number | null;
  }>(
    `SELECT keys.generation, keys.fingerprint, keys.algorithm, keys.bits, keys.state, keys.created_at AS createdAt,
            keys.verified_at AS verifiedAt, sends.state AS sendState, sends.attempts, sends.last_error AS lastError,
            sends.accepted_at AS acceptedAt
       FROM keys JOIN sends ON sends.key_id = keys.id WHERE keys.device_id = ? ORDER BY keys.generation`,
    deviceId,
  );
  const attempts = db.all<{
    id: number;
    run: number;
    outcome: string | null;
    code: string | null;
    path: string;
    startedAt: number;
    endedAt: number | null;
  }>(
    `SELECT id, run_id AS run, outcome, code, path, started_at AS startedAt, ended_at AS endedAt
       FROM attempts WHERE device_id = ? ORDER BY id`,
    deviceId,
  );
  return {
    deviceId,
    keys: keys.map(({ sendState, attempts: tries, lastError, acceptedAt, ...key }) => ({
      ...key,
      cloud: { state: sendState, attempts: tries, lastError, acceptedAt },
    })),
    backups: db.all(
      `SELECT id, taken_at AS takenAt, sha256, bytes, classification, fingerprint
         FROM backups WHERE device_id = ? ORDER BY id`,
      deviceId,
    ),
    failures: failuresOf(db, { deviceId, after: 0 })?.count ?? 0,
    releases: db.all('SELECT released_at AS releasedAt, why FROM releases WHERE device_id = ? ORDER BY id', deviceId),
    attempts: attempts.map(({ id, ...attempt }) => ({
      ...attempt,
      steps: db.all('SELECT name, state, ms FROM steps WHERE attempt_id = ? ORDER BY seq', id),
    })),
  };
}
