import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';

/** What a signed report says of a run. Times are epoch milliseconds. */
export interface RunStatement {
  readonly run: number;
  readonly job: string;
  readonly manifestSha256: string;
  readonly state: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly exitCode: number | null;
  readonly devices: readonly {
    readonly deviceId: DeviceId;
    readonly outcome: string | null;
    readonly code: string | null;
    readonly cloud: string | null;
    /** SHA-256 of the SPKI of the key that it carried when its row settled. */
    readonly fingerprint: string | null;
  }[];
}

/** @throws Fault RUN_NOT_FOUND */
export function runStatement(db: Db, runId: number): RunStatement {
  const run = db.get<Omit<RunStatement, 'devices'>>(
    `SELECT id AS run, job, manifest_sha256 AS manifestSha256, state, started_at AS startedAt, ended_at AS endedAt,
            exit_code AS exitCode FROM runs WHERE id = ?`,
    runId,
  );
  if (!run) throw new Fault('RUN_NOT_FOUND', `there is no run ${runId}`);
  const devices = db.all<RunStatement['devices'][number]>(
    'SELECT device_id AS deviceId, outcome, code, cloud, fingerprint FROM rows WHERE run_id = ? ORDER BY line',
    runId,
  );
  return { ...run, devices };
}
