import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { OpenedRun } from '#src/store/ops/runs.ts';
import { RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
  await device.accepted('a', { left: true });
});
afterEach(() => record[Symbol.asyncDispose]());

function restore(): Promise<OpenedRun> {
  const [backupId] = record.list('SELECT max(id) FROM backups') as [number];
  const asked = { deviceId: device.id, backupId, sha256: 'x', productId: null, why: 'a test', at: record.at };
  return record.store.call('openRestore', asked);
}

describe('a restore that is asked for again', () => {
  test('is done again, where its device had passed and only the run was cut short', async () => {
    const first = await restore();
    await record.settle(first.runId, 1, 'pass');
    await record.finish(first.runId, true);
    const second = await restore();
    expect(second).toMatchObject({ resumed: false, rows: [{ settled: false }] });
    expect(second.runId).not.toBe(first.runId);
  });

  test('goes on where it was, as long as its device is not through', async () => {
    const first = await restore();
    expect(await restore()).toMatchObject({ resumed: true, runId: first.runId, rows: [{ settled: false }] });
    await record.settle(first.runId, 1, 'aborted', { code: 'INTERRUPTED' });
    await record.finish(first.runId, true);
    expect(await restore()).toMatchObject({ resumed: true, runId: first.runId, rows: [{ settled: false }] });
  });

  test('is on record each time, with its reason', async () => {
    await restore();
    await restore();
    expect(record.list('SELECT why FROM restores')).toEqual(['a test', 'a test']);
    expect(await record.store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
  });
});
