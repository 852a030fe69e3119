import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { ModuleRecord, WantedRecord } from '../../core/firmware-record.ts';
import type { Db } from '../db.ts';
import { callsOf } from './calls-by-hand.ts';
import type { CallEntry } from './calls-by-hand.ts';
import { deviceEvents, journalBegan } from './device-events.ts';
import type { DeviceEvent } from './device-events.ts';
import { readWanted } from './firmware.ts';
import { markOf } from './on-device.ts';
import { failuresOf } from './quarantine.ts';

export interface DeviceHistory {
  readonly deviceId: DeviceId;
  readonly keys: readonly {
    readonly generation: number;
    readonly fingerprint: string;
    readonly algorithm: string;
    readonly bits: number;
    /** What a hand has marked it as, else where it is in its life. */
    readonly state: string;
    readonly createdAt: number;
    readonly verifiedAt: number | null;
    readonly cloud: {
      readonly state: string;
      readonly attempts: number;
      readonly lastError: string | null;
      readonly acceptedAt: number | null;
    };
    readonly changes: readonly KeyChange[];
  }[];
  readonly backups: readonly {
    readonly id: number;
    readonly takenAt: number;
    readonly sha256: string;
    readonly bytes: number;
    readonly classification: string;
    readonly fingerprint: string | null;
  }[];
  /** What a hand has said of its keys, and of those that were found on it. */
  readonly marks: readonly {
    readonly fingerprint: string;
    readonly state: string;
    readonly why: string;
    readonly markedAt: number;
  }[];
  /** What was seen in each slot, oldest first: the last of a slot is what was there when it was last looked at. */
  readonly modules: readonly (ModuleRecord & { readonly seenAt: number })[];
  /** One that has not ended: the device is between parts. One that ended `writing` was given up for another. */
  readonly flashings: readonly {
    readonly begunAt: number;
    readonly endedAt: number | null;
    readonly state: 'writing' | 'whole';
    readonly wanted: readonly WantedRecord[];
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
  /** What the cloud was asked for beside its keys, oldest first. */
  readonly calls: readonly Omit<CallEntry, 'deviceId'>[];
  /** The newest of what the journal tells of it, oldest first, and how many older ones there are. */
  readonly events: readonly DeviceEvent[];
  readonly olderEvents: number;
  /** What is older than this, the tables alone tell. */
  readonly journalBegan: number;
}

interface KeyChange {
  readonly state: string;
  readonly at: number;
  readonly reason: string;
}

interface KeyRow {
  id: number;
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
}

/** Every key, backup, attempt and send of one device, oldest first, and what the journal tells of it. */
export function deviceHistory(db: Db, deviceId: DeviceId): DeviceHistory {
  if (!db.get('SELECT 1 FROM devices WHERE device_id = ?', deviceId)) {
    throw new Fault('DEVICE_NOT_FOUND', `device ${deviceId} is not on record`);
  }
  const keys = db.all<KeyRow>(
    `SELECT keys.id, keys.generation, keys.fingerprint, keys.algorithm, keys.bits,
            coalesce(${markOf('keys.fingerprint')}, keys.state) AS state, keys.created_at AS createdAt,
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
    keys: keys.map(({ id, sendState, attempts: tries, lastError, acceptedAt, ...key }) => ({
      ...key,
      cloud: { state: sendState, attempts: tries, lastError, acceptedAt },
      changes: db.all<KeyChange>('SELECT state, at, reason FROM key_changes WHERE key_id = ? ORDER BY id', id),
    })),
    backups: db.all(
      `SELECT id, taken_at AS takenAt, sha256, bytes, classification, fingerprint
         FROM backups WHERE device_id = ? ORDER BY id`,
      deviceId,
    ),
    marks: marksOf(db, deviceId),
    modules: db.all(
      `SELECT slot, state, version, function, platform, sha256, seen_at AS seenAt
         FROM modules WHERE device_id = ? ORDER BY id`,
      deviceId,
    ),
    flashings: db
      .all<Omit<DeviceHistory['flashings'][number], 'wanted'> & { wanted: string }>(
        `SELECT begun_at AS begunAt, ended_at AS endedAt, state, wanted FROM flashings WHERE device_id = ? ORDER BY id`,
        deviceId,
      )
      .map(flashing => ({ ...flashing, wanted: readWanted(flashing.wanted) })),
    failures: failuresOf(db, { deviceId, after: 0 })?.count ?? 0,
    releases: db.all('SELECT released_at AS releasedAt, why FROM releases WHERE device_id = ? ORDER BY id', deviceId),
    attempts: attempts.map(({ id, ...attempt }) => ({
      ...attempt,
      steps: db.all('SELECT name, state, ms FROM steps WHERE attempt_id = ? ORDER BY seq', id),
    })),
    calls: callsOf(db, deviceId).map(({ kind, state, attempts: tries, nextAt, lastStatus, lastError }) => ({
      ...{ kind, state, attempts: tries, nextAt, lastStatus, lastError },
    })),
    ...deviceEvents(db, deviceId),
    journalBegan: journalBegan(db),
  };
}

function marksOf(db: Db, deviceId: DeviceId): DeviceHistory['marks'] {
  return db.all(
    `SELECT fingerprint, state, why, marked_at AS markedAt FROM key_marks
      WHERE fingerprint IN (SELECT fingerprint FROM keys WHERE device_id = :deviceId
                            UNION SELECT fingerprint FROM backups WHERE device_id = :deviceId) ORDER BY id`,
    { deviceId },
  );
}
