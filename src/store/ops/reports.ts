import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { CloudState, Outcome } from '../../core/outcomes.ts';
import type { Db } from '../db.ts';
import { callsStateOf } from './calls-by-hand.ts';
import { currentCloud } from './cloud-state.ts';
import type { CallsState } from './cloud-state.ts';

export interface RunReport {
  readonly run: number;
  readonly job: string;
  readonly manifest: string;
  readonly state: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly rows: readonly {
    readonly deviceId: DeviceId;
    readonly name: string | null;
    readonly outcome: Outcome | null;
    readonly code: string | null;
    readonly message: string | null;
    readonly cloud: CloudState;
    readonly attempts: number;
  }[];
}

/** A run and its rows; the newest run where none is named. The cloud's state is that of now, not of when it ran. */
export function runReport(db: Db, runId: number | null): RunReport {
  const run = db.get<{
    id: number;
    job: string;
    manifest: string;
    state: string;
    started_at: number;
    ended_at: number | null;
  }>(
    `SELECT id, job, manifest, state, started_at, ended_at FROM runs WHERE ? IS NULL OR id = ? ORDER BY id DESC LIMIT 1`,
    runId,
    runId,
  );
  if (!run) {
    throw new Fault('RUN_NOT_FOUND', runId === null ? 'no run is on record yet' : `there is no run ${runId}`);
  }
  const rows = db.all<{
    device_id: DeviceId;
    name: string | null;
    outcome: Outcome | null;
    code: string | null;
    message: string | null;
    cloud: CloudState | null;
    send_state: string | null;
    calls_state: CallsState;
    attempts: number;
  }>(
    `SELECT rows.device_id, rows.name, rows.outcome, rows.code, rows.message, rows.cloud,
            (SELECT sends.state FROM keys JOIN sends ON sends.key_id = keys.id
              WHERE keys.device_id = rows.device_id AND keys.fingerprint = rows.fingerprint
              ORDER BY keys.generation DESC LIMIT 1) AS send_state,
            CASE rows.outcome WHEN 'pass' THEN ${callsStateOf('rows.device_id')} END AS calls_state,
            (SELECT count(*) FROM attempts WHERE attempts.run_id = rows.run_id AND attempts.device_id = rows.device_id) AS attempts
       FROM rows WHERE rows.run_id = ? ORDER BY rows.line`,
    run.id,
  );
  return {
    run: run.id,
    job: run.job,
    manifest: run.manifest,
    state: run.state,
    startedAt: run.started_at,
    endedAt: run.ended_at,
    rows: rows.map(row => ({
      deviceId: row.device_id,
      name: row.name,
      outcome: row.outcome,
      code: row.code,
      message: row.message,
      cloud: currentCloud(row.cloud, row.send_state, row.calls_state),
      attempts: row.attempts,
    })),
  };
}

export interface OutboxEntry {
  readonly deviceId: DeviceId;
  readonly generation: number;
  readonly fingerprint: string;
  readonly state: string;
  readonly attempts: number;
  readonly nextAt: number | null;
  readonly lastStatus: number | null;
  readonly lastError: string | null;
}

export function outboxReport(db: Db, state: string | null): OutboxEntry[] {
  return db.all<OutboxEntry>(
    `SELECT sends.device_id AS deviceId, keys.generation, keys.fingerprint, sends.state, sends.attempts,
            CASE sends.state WHEN 'pending' THEN sends.next_at ELSE sends.confirm_at END AS nextAt,
            sends.last_status AS lastStatus, sends.last_error AS lastError
       FROM sends JOIN keys ON keys.id = sends.key_id
      WHERE ? IS NULL OR sends.state = ? ORDER BY sends.id`,
    state,
    state,
  );
}

export function pendingSends(db: Db, deviceId: DeviceId | null): number {
  const found = db.get<{ n: number }>(
    `SELECT count(*) AS n FROM sends WHERE state = 'pending' AND (? IS NULL OR device_id = ?)`,
    deviceId,
    deviceId,
  );
  return found?.n ?? 0;
}

/** The station's name, and the recipient of its own identity where its vault is sealed to that. */
export function stationId(db: Db): { stationId: string; recipient: string | null } {
  const row = db.get<{ station_id: string; recipient: string | null }>('SELECT station_id, recipient FROM station');
  if (!row) throw new Fault('RECORD_INVALID', 'the database has no station');
  return { stationId: row.station_id, recipient: row.recipient };
}

/** Puts down which recipient the vault seals to; a second one is refused, since what lies here could not be opened. */
export function bindRecipient(db: Db, recipient: string): void {
  const { recipient: bound } = stationId(db);
  if (bound === null) {
    db.change(
      `UPDATE station SET recipient = ?, vault_policy = 'local', vault_recipients = ? WHERE vault_policy IS NULL`,
      recipient,
      JSON.stringify([recipient]),
    );
  } else if (bound !== recipient) {
    throw new Fault('VAULT_IDENTITY', 'the identity file is not the one that this database was sealed to', {
      facts: { expected: bound, found: recipient },
    });
  }
}
