import type { DeviceId } from '../../core/device-id.ts';
import { isUncertain, REFUSAL_DOUBTS } from '../../core/ledger.ts';
import { isSettled } from '../../core/outcomes.ts';
import type { CloudState, Failures, Finished, Outcome } from '../../core/outcomes.ts';
import type { Db } from '../db.ts';
import { callsStateOf } from './calls-by-hand.ts';
import { cloudOfSend, currentCloud } from './cloud-state.ts';
import type { CallsState } from './cloud-state.ts';
import { carriesCompromised } from './on-device.ts';
import { failuresOf, releasedSince } from './quarantine.ts';
import type { OpenRun, RunRow } from './runs.ts';

/* How the rows of a manifest stand before a run: what is settled, what is to be finished, what is left alone. */

/** What is on record of a row before the run begins. */
export interface RowStanding {
  readonly deviceId: DeviceId;
  /** Settled earlier: it is skipped. */
  readonly settled: boolean;
  /** Its latest outcome within this job and manifest, and where the cloud stands with its key now. */
  readonly outcome: Outcome | null;
  readonly code: string | null;
  readonly cloud: CloudState;
  /** What the device has against it, if anything. A quarantined one is skipped. */
  readonly failures: Failures | null;
  /** Through on the device, but never settled: a crash came between. */
  readonly finishable: Finished | null;
}

export interface LatestRow {
  device_id: DeviceId;
  run_id: number;
  outcome: Outcome;
  code: string | null;
  cloud: CloudState | null;
  send_state: string | null;
  /** Of a row that passed. */
  calls_state: CallsState;
}

/** Puts the row on the run’s record, and says how it stands. */
export function standing(
  db: Db,
  run: Omit<OpenRun, 'rows'>,
  runId: number,
  isAgain: boolean,
  row: RunRow,
  latest: LatestRow | undefined,
): RowStanding {
  db.run(
    `INSERT INTO rows (run_id, device_id, line, port, name, product_id, extra) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (run_id, device_id) DO UPDATE SET line = excluded.line, port = excluded.port, name = excluded.name,
       product_id = excluded.product_id, extra = excluded.extra`,
    runId,
    row.deviceId,
    row.line,
    row.port,
    row.name,
    row.productId,
    JSON.stringify(row.extra),
  );
  // An earlier run's outcome settles nothing in a run that was begun anew on purpose, resumed or not.
  const compromised = run.onlyCompromised === true && carriesCompromised(db, row.deviceId);
  const begunAgain = compromised || (isAgain && latest?.run_id !== runId);
  const retry = run.retryFailed && (latest?.outcome === 'fail' || latest?.outcome === 'refused');
  const cloud = currentCloud(latest?.cloud ?? null, latest?.send_state ?? null, latest?.calls_state);
  const settled =
    !begunAgain && !retry && isSettled(latest?.outcome ?? null) && !isToBeResumed(db, row.deviceId, latest?.outcome);
  const failures = failuresOf(db, { deviceId: row.deviceId, after: run.quarantineAfter ?? 0 });
  if (!settled && failures?.quarantined) {
    db.run(
      `UPDATE rows SET outcome = 'skipped', code = 'QUARANTINED', cloud = ?, settled_at = ?
        WHERE run_id = ? AND device_id = ? AND (outcome IS NULL OR outcome = 'aborted')`,
      cloud,
      run.at,
      runId,
      row.deviceId,
    );
  }
  if (settled && latest?.run_id !== runId) {
    db.run(
      `UPDATE rows SET outcome = 'skipped', cloud = ?, settled_at = ? WHERE run_id = ? AND device_id = ? AND outcome IS NULL`,
      cloud,
      run.at,
      runId,
      row.deviceId,
    );
  }
  return {
    deviceId: row.deviceId,
    settled,
    outcome: latest?.outcome ?? null,
    code: latest?.code ?? null,
    cloud,
    failures,
    finishable:
      settled || run.again || compromised ? null : finishable(db, run, { runId, isAgain, deviceId: row.deviceId }),
  };
}

/**
 * A write that is through on the device, though the row was never settled: its last attempt in this run was cut short, or
 * all that was missing at its last one, in whichever run of this job and manifest, was the leaving.
 * A write without a key (job server-key) is through once it is verified, one that was refused once it is rolled back.
 */
function finishable(
  db: Db,
  { job, manifest }: Pick<OpenRun, 'job' | 'manifest'>,
  row: { runId: number; isAgain: boolean; deviceId: DeviceId },
): Finished | null {
  const { runId, isAgain, deviceId } = row;
  const found = db.get<{
    phase: string;
    fingerprint: string | null;
    old_fingerprint: string | null;
    refusal_uncertain: number;
    send_state: string | null;
    proof_refused: string | null;
  }>(
    `SELECT writes.phase, keys.fingerprint, backups.fingerprint AS old_fingerprint, writes.refusal_uncertain,
            sends.state AS send_state,
            CASE WHEN sends.state = 'refused' AND sends.accepted_at IS NOT NULL THEN sends.last_error END AS proof_refused
       FROM writes
       JOIN attempts ON attempts.id =
         (SELECT max(attempts.id) FROM attempts JOIN runs ON runs.id = attempts.run_id
           WHERE attempts.device_id = :deviceId AND runs.job = :job AND runs.manifest = :manifest
             AND (runs.id = :runId OR NOT :isAgain))
       JOIN backups ON backups.id = writes.backup_id
       LEFT JOIN keys ON keys.id = writes.key_id
       LEFT JOIN sends ON sends.key_id = writes.key_id
      WHERE writes.id = (SELECT max(id) FROM writes AS newest WHERE newest.device_id = :deviceId)
        AND ((attempts.ended_at IS NULL AND attempts.run_id = :runId) OR attempts.code = 'LEAVE_FAILED') AND writes.last_attempt_id = attempts.id
        AND (writes.phase IN ('accepted', 'unknown', 'left', 'rolled-back')
             OR (writes.phase = 'verified' AND writes.key_id IS NULL))`,
    { runId, deviceId, job, manifest, isAgain: isAgain ? 1 : 0 },
  );
  if (!found) return null;
  const { phase, fingerprint, old_fingerprint: old, refusal_uncertain: doubt, send_state: send } = found;
  if (phase !== 'rolled-back') return { outcome: 'pass', uncertain: false, fingerprint, cloud: cloudOfSend(send) };
  const uncertain = isUncertain(REFUSAL_DOUBTS[doubt] ?? 'late', old);
  const proofRefused = found.proof_refused ?? undefined;
  return { outcome: 'refused', uncertain, proofRefused, fingerprint: old, cloud: 'refused' };
}

function isToBeResumed(db: Db, deviceId: DeviceId, outcome: Outcome | undefined): boolean {
  return hasUnfinishedWrite(db, deviceId) || (outcome === 'fail' && releasedSince(db, deviceId));
}

/**
 * Proven on the device and not sent, left or taken back yet: a run has something to finish there. What was begun by
 * `restore` is finished by it: a run would give the device another key.
 */
function hasUnfinishedWrite(db: Db, deviceId: DeviceId): boolean {
  const found = db.get(
    `SELECT 1 FROM writes
      WHERE device_id = ? AND phase IN ('verified', 'accepted', 'unknown', 'refused', 'rolling-back')
        AND restored_backup_id IS NULL`,
    deviceId,
  );
  return found !== undefined;
}

/** The latest outcome of each row within a job and manifest; the newest run’s, since a clock may jump. */
export function latestOutcomes(
  db: Db,
  { job, manifest, deviceIds }: { job: string; manifest: string; deviceIds: readonly DeviceId[] },
): Map<DeviceId, LatestRow> {
  const latest = new Map<DeviceId, LatestRow>();
  const rows = db.all<LatestRow>(
    `SELECT rows.device_id, rows.run_id, rows.outcome, rows.code, rows.cloud,
            (SELECT sends.state FROM keys JOIN sends ON sends.key_id = keys.id
              WHERE keys.device_id = rows.device_id AND keys.fingerprint = rows.fingerprint
              ORDER BY keys.generation DESC LIMIT 1) AS send_state,
            CASE rows.outcome WHEN 'pass' THEN ${callsStateOf('rows.device_id')} END AS calls_state
       FROM rows JOIN runs ON runs.id = rows.run_id
      WHERE runs.job = ? AND runs.manifest = ? AND rows.outcome IS NOT NULL AND rows.outcome <> 'skipped'
        AND rows.device_id IN (SELECT value FROM json_each(?))
      ORDER BY rows.run_id`,
    job,
    manifest,
    JSON.stringify(deviceIds),
  );
  for (const row of rows) latest.set(row.device_id, row);
  return latest;
}

/** What a run would find of a row, without beginning one. */
export interface RowPlan {
  readonly deviceId: DeviceId;
  readonly settled: boolean;
  readonly outcome: Outcome | null;
  readonly failures: Failures | null;
  /** Another manifest under which the device passed; it is worked on again all the same. */
  readonly elsewhere: string | null;
}

export function planRows(
  db: Db,
  plan: {
    job: string;
    manifest: string;
    deviceIds: readonly DeviceId[];
    again: boolean;
    retryFailed: boolean;
    onlyCompromised?: boolean;
    quarantineAfter?: number;
  },
): RowPlan[] {
  const latest = latestOutcomes(db, plan);
  return plan.deviceIds.map(deviceId => {
    const outcome = latest.get(deviceId)?.outcome ?? null;
    const retry = plan.retryFailed && (outcome === 'fail' || outcome === 'refused');
    const begunAgain = plan.again || (plan.onlyCompromised === true && carriesCompromised(db, deviceId));
    const elsewhere = db.get<{ manifest: string }>(
      `SELECT runs.manifest FROM rows JOIN runs ON runs.id = rows.run_id
        WHERE rows.device_id = ? AND rows.outcome = 'pass' AND runs.job = ? AND runs.manifest <> ?
        ORDER BY runs.id DESC LIMIT 1`,
      deviceId,
      plan.job,
      plan.manifest,
    );
    return {
      deviceId,
      settled: !begunAgain && !retry && isSettled(outcome) && !isToBeResumed(db, deviceId, outcome ?? undefined),
      outcome,
      failures: failuresOf(db, { deviceId, after: plan.quarantineAfter ?? 0 }),
      elsewhere: elsewhere?.manifest ?? null,
    };
  });
}
