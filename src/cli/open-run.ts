import type { RowBefore } from '../fleet/options.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import type { OpenRun, RunRow } from '../store/ops/runs.ts';
import type { Store } from '../store/store.ts';

const ROWS_AT_ONCE = 500;

export interface Opened {
  readonly runId: number;
  readonly resumed: boolean;
  /** Rows of which the record knows anything. */
  readonly before: readonly RowBefore[];
}

/**
 * Begins or resumes a run. The rows go on record in pages, so that neither memory nor a transaction grows with the
 * manifest; a crash in between leaves a run that the next one resumes, with all of them.
 */
export async function openRun(
  store: Pick<Store, 'call'>,
  run: Omit<OpenRun, 'rows' | 'deviceIds'>,
  rows: readonly ManifestRow[],
): Promise<Opened> {
  const first = rows.slice(0, ROWS_AT_ONCE).map(rowOf);
  const isLong = rows.length > first.length;
  const deviceIds = isLong && run.partly !== true ? { deviceIds: rows.map(({ deviceId }) => deviceId) } : {};
  const opened = await store.call('openRun', { ...run, ...deviceIds, rows: first });
  const { runId, resumed, isAgain } = opened;
  const before: RowBefore[] = opened.rows.filter(isKnown);
  for (let from = ROWS_AT_ONCE; from < rows.length; from += ROWS_AT_ONCE) {
    const page = rows.slice(from, from + ROWS_AT_ONCE).map(rowOf);
    const standings = await store.call('addRows', { run, runId, isAgain, rows: page });
    before.push(...standings.filter(isKnown));
  }
  return { runId, resumed, before };
}

/** As it crosses into the store's thread: a plain copy. */
function rowOf({ extra, ...row }: ManifestRow): RunRow {
  return { ...row, extra: { ...extra } };
}

function isKnown({ settled, outcome, cloud, failures, finishable }: RowBefore): boolean {
  return settled || outcome !== null || cloud !== 'none' || failures !== null || finishable !== null;
}
