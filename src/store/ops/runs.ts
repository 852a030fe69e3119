import type { DeviceId } from '../../core/device-id.ts';
import type { Settlement } from '../../core/ledger.ts';
import type { Db } from '../db.ts';
import { freeDeadLeases, freeLeasesOf } from './lease-owner.ts';
import { latestOutcomes, standing } from './standing.ts';
import type { RowStanding } from './standing.ts';

/** A row of the manifest as it goes on record. */
export interface RunRow {
  readonly deviceId: DeviceId;
  readonly line: number;
  readonly port: string | null;
  readonly name: string | null;
  readonly productId: string | null;
  readonly extra: Readonly<Record<string, string>>;
}

export interface OpenRun {
  readonly job: string;
  readonly manifest: string;
  readonly manifestSha256: string;
  /** The first of them, where there are many: the others follow with `addRows`. */
  readonly rows: readonly RunRow[];
  /** Where not all of them are in `rows`. */
  readonly deviceIds?: readonly DeviceId[];
  /** Only some of the manifest's rows (--only): those that are missing here are left for later. */
  readonly partly?: boolean;
  readonly again: boolean;
  readonly retryFailed: boolean;
  /** A device that carries a key which is marked compromised is begun anew, however its row was settled. */
  readonly onlyCompromised?: boolean;
  /** So many failed attempts quarantine a device; 0 or nothing: none do. */
  readonly quarantineAfter?: number;
  readonly at: number;
}

export interface OpenedRun {
  readonly runId: number;
  readonly resumed: boolean;
  /** Begun anew on settled rows, by this call or by the one that it resumes. */
  readonly isAgain: boolean;
  readonly rows: readonly RowStanding[];
}

/**
 * Resumes the newest unfinished run of this job and manifest, or begins a new one (`again`: always). Rows that were
 * settled earlier are put down as skipped.
 */
export function openRun(db: Db, run: OpenRun): OpenedRun {
  const unfinished = run.again
    ? undefined
    : db.get<{ id: number; again: number }>(
        `SELECT id, again FROM runs WHERE job = ? AND manifest = ? AND state <> 'finished' ORDER BY id DESC LIMIT 1`,
        run.job,
        run.manifest,
      );
  if (run.again) {
    // What was open is begun anew: a later plain run goes on from this one.
    db.run(
      `UPDATE runs SET state = 'finished' WHERE job = ? AND manifest = ? AND state <> 'finished'`,
      run.job,
      run.manifest,
    );
  }
  let runId: number;
  if (unfinished) {
    runId = unfinished.id;
    db.change(
      `UPDATE runs SET state = 'running', manifest_sha256 = ?, ended_at = NULL, exit_code = NULL WHERE id = ?`,
      run.manifestSha256,
      runId,
    );
  } else {
    runId = db.run(
      'INSERT INTO runs (job, manifest, manifest_sha256, again, started_at) VALUES (?, ?, ?, ?, ?)',
      run.job,
      run.manifest,
      run.manifestSha256,
      run.again ? 1 : 0,
      run.at,
    ).id;
  }
  if (unfinished && !run.partly) skipVanishedRows(db, runId, run);
  // One run at a time holds the station, so a lease that a run left behind belongs to a dead process.
  freeLeasesOf(db, 'run:%');
  freeDeadLeases(db);
  const isAgain = unfinished ? unfinished.again === 1 : run.again;
  return { runId, resumed: unfinished !== undefined, isAgain, rows: putRows(db, run, { runId, isAgain }, run.rows) };
}

/** Further rows of a run that was opened just now: a long manifest is no single transaction. */
export function addRows(
  db: Db,
  {
    run,
    runId,
    isAgain,
    rows,
  }: { run: Omit<OpenRun, 'rows'>; runId: number; isAgain: boolean; rows: readonly RunRow[] },
): readonly RowStanding[] {
  return putRows(db, run, { runId, isAgain }, rows);
}

function putRows(
  db: Db,
  run: Omit<OpenRun, 'rows'>,
  { runId, isAgain }: { runId: number; isAgain: boolean },
  rows: readonly RunRow[],
): RowStanding[] {
  const ids = rows.map(({ deviceId }) => deviceId);
  const latest = latestOutcomes(db, { ...run, deviceIds: ids });
  return rows.map(row => standing(db, run, runId, isAgain, row, latest.get(row.deviceId)));
}

/** Rows that the manifest has lost since: nobody waits for them any more. */
function skipVanishedRows(db: Db, runId: number, run: OpenRun): void {
  db.run(
    `UPDATE rows SET outcome = 'skipped', message = 'no longer in the manifest', settled_at = ?
      WHERE run_id = ? AND (outcome IS NULL OR outcome = 'aborted')
        AND device_id NOT IN (SELECT value FROM json_each(?))`,
    run.at,
    runId,
    JSON.stringify(run.deviceIds ?? run.rows.map(row => row.deviceId)),
  );
}

/** The row, its attempt and the attempt's steps, in one transaction. */
export function settleRow(db: Db, row: Settlement): void {
  db.change(
    `UPDATE rows SET outcome = ?, code = ?, message = ?, cloud = ?, fingerprint = ?, path = ?, duration_ms = ?, settled_at = ?
      WHERE run_id = ? AND device_id = ?`,
    row.outcome,
    row.code,
    row.message,
    row.cloud,
    row.fingerprint,
    row.path,
    Math.round(row.durationMs),
    row.at,
    row.runId,
    row.deviceId,
  );
  if (row.outcome === 'pass' || row.outcome === 'refused') endFromRecord(db, row);
  if (row.attemptId === null) return;
  db.change(
    'UPDATE attempts SET outcome = ?, code = ?, message = ?, ended_at = ? WHERE id = ?',
    row.outcome,
    row.code,
    row.message,
    row.at,
    row.attemptId,
  );
  db.run(
    `INSERT INTO steps (attempt_id, seq, name, state, started_at, ms)
       SELECT ?, key + 1, value ->> 'name', value ->> 'state', value ->> 'startedAt', value ->> 'ms' FROM json_each(?)`,
    row.attemptId,
    JSON.stringify(row.steps.map(({ name, state, startedAt, ms }) => ({ name, state, startedAt, ms: Math.round(ms) }))),
  );
}

/** What a crash had left open of a row that is through: the attempt that had gone through, and a write whose device is gone. */
function endFromRecord(db: Db, { runId, deviceId, attemptId, outcome, code, at }: Settlement): void {
  if (attemptId === null) {
    db.run(
      `UPDATE attempts SET outcome = ?, code = ?, ended_at = ?
        WHERE id = (SELECT max(id) FROM attempts WHERE run_id = ? AND device_id = ?) AND ended_at IS NULL`,
      outcome,
      code,
      at,
      runId,
      deviceId,
    );
  }
  if (outcome !== 'pass') return;
  db.run(
    `UPDATE writes SET phase = 'left', updated_at = ? WHERE device_id = ? AND phase IN ('accepted', 'unknown')`,
    at,
    deviceId,
  );
}

/** A run that was interrupted, or in which rows were left for later, is resumed by the next one; any other is finished. */
export function finishRun(db: Db, run: { runId: number; exitCode: number; interrupted: boolean; at: number }): void {
  const open =
    db.get<{ n: number }>(
      `SELECT count(*) AS n FROM rows WHERE run_id = ? AND (outcome IS NULL OR outcome = 'aborted')`,
      run.runId,
    )?.n ?? 0;
  db.change(
    'UPDATE runs SET state = ?, ended_at = ?, exit_code = ? WHERE id = ?',
    open > 0 || run.interrupted ? 'interrupted' : 'finished',
    run.at,
    run.exitCode,
    run.runId,
  );
}
