import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Outcome } from '#src/core/outcomes.ts';
import { deviceIdOf, faultOf, RecordBench } from '../support/record-bench.ts';

let record: RecordBench;
beforeEach(() => {
  record = RecordBench.open();
});
afterEach(() => record[Symbol.asyncDispose]());

/** A run in which each device has ended so; null: nothing came of it. */
async function ran(outcomes: readonly (Outcome | null)[], interrupted = false): Promise<number> {
  const { runId } = await record.openRun(outcomes.map((_, n) => n + 1));
  for (const [n, outcome] of outcomes.entries()) if (outcome !== null) await record.settle(runId, n + 1, outcome);
  await record.finish(runId, interrupted);
  return runId;
}

function stateOf(runId: number): unknown {
  return record.list('SELECT state FROM runs WHERE id = ?', runId)[0];
}

function outcomes(runId: number): unknown[] {
  return record.list('SELECT outcome FROM rows WHERE run_id = ? ORDER BY line', runId);
}

describe('a run', () => {
  test('begins with every row open, as the manifest has them', async () => {
    const rows = [
      { deviceId: deviceIdOf(1), line: 2, port: '1-1', name: 'A-01', productId: '4711', extra: { colour: 'red' } },
    ];
    const opened = await record.openRun([], { rows });
    expect(opened).toEqual({
      runId: 1,
      resumed: false,
      isAgain: false,
      rows: [
        {
          deviceId: deviceIdOf(1),
          settled: false,
          outcome: null,
          code: null,
          cloud: 'none',
          failures: null,
          finishable: null,
        },
      ],
    });
    expect(record.query('SELECT line, port, name, product_id, extra, outcome FROM rows')).toEqual([
      { line: 2, port: '1-1', name: 'A-01', product_id: '4711', extra: '{"colour":"red"}', outcome: null },
    ]);
    expect(stateOf(1)).toBe('running');
  });

  test.each([
    [['pass', 'fail', 'refused', 'error', 'unseen', 'skipped'], false, 'finished'],
    [['pass', 'aborted'], false, 'interrupted'],
    [['pass', null], false, 'interrupted'],
    [['pass'], true, 'interrupted'],
    [[], false, 'finished'],
  ] as const)('whose rows have ended as %j (Ctrl-C: %s) is %s', async (rows, interrupted, state) => {
    expect(stateOf(await ran(rows, interrupted))).toBe(state);
  });

  test('that ended puts down when, and with which exit code', async () => {
    await ran(['pass'], true);
    expect(record.query('SELECT exit_code AS code, ended_at IS NOT NULL AS ended FROM runs')).toEqual([
      { code: 130, ended: 1 },
    ]);
  });
});

describe('the next plain run of a job and a manifest', () => {
  test('goes on with the newest one that is unfinished', async () => {
    const first = await ran(['pass', null], true);
    const opened = await record.openRun([1, 2], { manifestSha256: 'changed' });
    expect(opened).toMatchObject({ runId: first, resumed: true });
    expect(opened.rows.map(({ settled }) => settled)).toEqual([true, false]);
    expect(record.query('SELECT state, manifest_sha256 AS sha, ended_at, exit_code FROM runs')).toEqual([
      { state: 'running', sha: 'changed', ended_at: null, exit_code: null },
    ]);
    expect(outcomes(first)).toEqual(['pass', null]);
  });

  test('goes on with one whose process died, too', async () => {
    const { runId } = await record.openRun([1]);
    expect(await record.openRun([1])).toMatchObject({ runId, resumed: true });
  });

  test('begins a new one after a finished one, and skips what is settled', async () => {
    const settled = ['pass', 'fail', 'refused', 'error', 'unseen'] as const;
    await ran(settled);
    const opened = await record.openRun([1, 2, 3, 4, 5]);
    expect(opened).toMatchObject({ runId: 2, resumed: false });
    expect(opened.rows.map(row => [row.settled, row.outcome])).toEqual(
      settled.map(outcome => [['pass', 'fail', 'refused'].includes(outcome), outcome]),
    );
    expect(outcomes(2)).toEqual(['skipped', 'skipped', 'skipped', null, null]);
  });

  test('works on rows that were appended, and finds those that were moved to other lines', async () => {
    const first = await ran(['pass', null], true);
    const opened = await record.openRun([3, 1, 2]);
    expect(opened.rows.map(({ deviceId, settled }) => [deviceId, settled])).toEqual([
      [deviceIdOf(3), false],
      [deviceIdOf(1), true],
      [deviceIdOf(2), false],
    ]);
    expect(record.list('SELECT line FROM rows WHERE run_id = ? ORDER BY device_id', first)).toEqual([3, 4, 2]);
  });

  test('is not concerned by another job, nor by another manifest', async () => {
    await ran(['pass', null], true);
    for (const more of [{ job: 'backup' }, { manifest: '/other.csv' }]) {
      const opened = await record.openRun([1], more);
      expect(opened).toMatchObject({ resumed: false, rows: [{ settled: false, outcome: null }] });
    }
  });

  test('takes the latest outcome of a row, and not that of a skip', async () => {
    await ran(['fail']);
    const { runId } = await record.openRun([1], { retryFailed: true });
    await record.settle(runId, 1, 'pass');
    await record.finish(runId);
    await ran([null]);
    expect((await record.openRun([1])).rows).toMatchObject([{ settled: true, outcome: 'pass' }]);
  });

  test('that goes on keeps what was settled in it, though it would be skipped', async () => {
    const first = await ran(['pass', 'fail', null], true);
    await record.openRun([1, 2, 3]);
    expect(outcomes(first)).toEqual(['pass', 'fail', null]);
  });

  test('that goes on leaves its skips as they were put down', async () => {
    await ran(['pass']);
    const first = await ran([null, null], true);
    const skipped = () => record.query(`SELECT run_id AS run, settled_at AS at FROM rows WHERE outcome = 'skipped'`);
    const before = skipped();
    expect(before).toMatchObject([{ run: first }]);
    await record.openRun([1, 2]);
    expect(skipped()).toEqual(before);
  });

  test('of some rows alone leaves the others for later', async () => {
    await ran(['pass', null, null], true);
    const { runId } = await record.openRun([2], { partly: true });
    await record.settle(runId, 2, 'pass');
    await record.finish(runId);
    expect(stateOf(runId)).toBe('interrupted');
    expect(outcomes(runId)).toEqual(['pass', 'pass', null]);
  });

  test('finishes though the manifest has lost some of its rows', async () => {
    await ran(['pass', null, null], true);
    const { runId } = await record.openRun([1, 2]);
    await record.settle(runId, 2, 'pass');
    await record.finish(runId);
    expect(stateOf(runId)).toBe('finished');
    expect(outcomes(runId)).toEqual(['pass', 'pass', 'skipped']);
  });
});

describe('on purpose', () => {
  test('--retry-failed works on the failed and the refused, and on none that passed', async () => {
    await ran(['pass', 'fail', 'refused', 'error']);
    const opened = await record.openRun([1, 2, 3, 4], { retryFailed: true });
    expect(opened.rows.map(({ settled }) => settled)).toEqual([true, false, false, false]);
  });

  test('--again works on every row, and closes what was open', async () => {
    const first = await ran(['pass', null], true);
    const opened = await record.openRun([1, 2], { again: true });
    expect(opened).toMatchObject({ runId: 2, resumed: false });
    expect(opened.rows.map(({ settled, outcome }) => [settled, outcome])).toEqual([
      [false, 'pass'],
      [false, null],
    ]);
    expect([stateOf(first), stateOf(2)]).toEqual(['finished', 'running']);
  });

  test('--again that was interrupted goes on, and settles rows by its own outcomes alone', async () => {
    await ran(['pass', 'pass']);
    const { runId } = await record.openRun([1, 2], { again: true });
    await record.settle(runId, 1, 'fail');
    await record.finish(runId, true);
    const opened = await record.openRun([1, 2]);
    expect(opened).toMatchObject({ runId, resumed: true });
    expect(opened.rows.map(({ settled, outcome }) => [settled, outcome])).toEqual([
      [true, 'fail'],
      [false, 'pass'],
    ]);
  });
});

describe('a plan', () => {
  test('says what a run would find, and begins none', async () => {
    await ran(['pass', 'fail']);
    const plan = {
      job: 'rekey',
      manifest: '/rack.csv',
      deviceIds: [1, 2, 3].map(deviceIdOf),
      again: false,
      retryFailed: false,
    };
    const rows = await record.store.call('planRows', plan);
    expect(rows.map(({ settled, outcome, elsewhere }) => [settled, outcome, elsewhere])).toEqual([
      [true, 'pass', null],
      [true, 'fail', null],
      [false, null, null],
    ]);
    const elsewhere = await record.store.call('planRows', { ...plan, manifest: '/other.csv' });
    expect(elsewhere.map(row => [row.settled, row.elsewhere])).toEqual([
      [false, '/rack.csv'],
      [false, null],
      [false, null],
    ]);
    expect(record.list('SELECT count(*) FROM runs')).toEqual([1]);
  });

  test.each(['again', 'retryFailed'] as const)('with %s says so too', async how => {
    await ran(['pass', 'fail']);
    const plan = {
      job: 'rekey',
      manifest: '/rack.csv',
      deviceIds: [1, 2].map(deviceIdOf),
      again: false,
      retryFailed: false,
    };
    const rows = await record.store.call('planRows', { ...plan, [how]: true });
    expect(rows.map(({ settled }) => settled)).toEqual([how === 'retryFailed', false]);
  });
});

test('a row of no run can not be settled', async () => {
  const { runId } = await record.openRun([1]);
  expect((await faultOf(record.settle(runId, 2, 'pass'))).message).toContain('touched 0 rows instead of 1');
});
