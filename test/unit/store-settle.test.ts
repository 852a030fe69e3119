import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { deviceIdOf, faultOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
beforeEach(() => {
  record = RecordBench.open();
});
afterEach(() => record[Symbol.asyncDispose]());

/** A device of a run that is under way. */
async function begun(n = 1): Promise<{ device: RecordedDevice; runId: number }> {
  const { runId } = await record.openRun([n]);
  return { device: await record.device(n), runId };
}

/** What the next run finds of the row, after the process of the one before died. */
async function afterCrash(n = 1) {
  return (await record.openRun([n])).rows[0]!;
}

describe('a row is settled', () => {
  test('together with its attempt and the steps of it', async () => {
    const { device, runId } = await begun();
    const attemptId = await device.attempt(runId);
    const steps = [
      { name: 'identify', state: 'ok', startedAt: 5, ms: 1.4 },
      { name: 'preflight', state: 'failed', startedAt: 6, ms: 2.6 },
    ] as const;
    const what = { attemptId, code: 'DFU_NOT_IDLE', message: 'it stays', durationMs: 4.5, steps } as const;
    await record.settle(runId, 1, 'fail', what);
    const { attempts } = await record.store.call('deviceHistory', device.id);
    expect(attempts).toMatchObject([
      {
        run: runId,
        outcome: 'fail',
        code: 'DFU_NOT_IDLE',
        steps: [
          { name: 'identify', state: 'ok', ms: 1 },
          { name: 'preflight', state: 'failed', ms: 3 },
        ],
      },
    ]);
    expect(await record.store.call('runReport', null)).toMatchObject({
      run: runId,
      rows: [{ deviceId: device.id, outcome: 'fail', code: 'DFU_NOT_IDLE', message: 'it stays', attempts: 1 }],
    });
  });

  test('once for an attempt: what is wrong with it undoes the row as well', async () => {
    const { runId } = await begun();
    expect((await faultOf(record.settle(runId, 1, 'pass', { attemptId: 99 }))).message).toContain('touched 0 rows');
    expect(record.list('SELECT outcome FROM rows')).toEqual([null]);
  });

  test('and what the cloud says of it afterwards is told by its send', async () => {
    const { device, runId } = await begun();
    const { sendId } = await device.leftToOutbox('a');
    await record.settle(runId, 1, 'pass', { cloud: 'pending', fingerprint: 'a' });
    const cloud = async () => (await record.store.call('runReport', runId)).rows[0]?.cloud;
    expect(await cloud()).toBe('pending');
    await device.lease(sendId);
    await record.store.call('recordAccepted', { owner: 'run:1', sendId, status: 200, at: record.at });
    expect(await cloud()).toBe('accepted');
    expect((await afterCrash()).cloud).toBe('accepted');
  });
});

test('a device of which all was done but the leaving is settled from the record by a later run, unless begun anew', async () => {
  const { device, runId } = await begun();
  await device.accepted('a');
  await record.settle(runId, 1, 'fail', { code: 'LEAVE_FAILED', attemptId: 1 });
  await record.finish(runId);
  const row = await afterCrash();
  expect(row).toMatchObject({ settled: false, finishable: { outcome: 'pass', fingerprint: 'a', cloud: 'accepted' } });
  await record.settle(2, 1, 'pass', { cloud: 'accepted', fingerprint: 'a' });
  expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  await record.finish(2);
  expect((await record.openRun([1], { again: true })).rows[0]?.finishable).toBeNull();
});

describe('a row whose process died before it was settled', () => {
  test.each(['accepted', 'unknown', 'left'] as const)(
    'can be settled from the record, where the write is `%s`',
    async phase => {
      const { device } = await begun();
      if (phase === 'accepted') await device.accepted('a');
      else {
        const { writeId } = await device.verified('a');
        await record.store.call('markLeftToOutbox', { writeId, at: record.at });
        if (phase === 'left') await record.store.call('markLeft', { writeId, at: record.at });
      }
      const cloud = phase === 'accepted' ? 'accepted' : 'pending';
      expect(await afterCrash()).toMatchObject({ settled: false, finishable: { fingerprint: 'a', cloud } });
    },
  );

  test('can be settled where a write without a key is verified', async () => {
    const { device } = await begun();
    await device.verified(null);
    expect((await afterCrash()).finishable).toMatchObject({ fingerprint: null, cloud: 'none' });
  });

  test.each(['prepared', 'writing', 'verified', 'refused'] as const)(
    'can not, where the write is `%s`',
    async phase => {
      const { device } = await begun();
      await device[phase]('a');
      expect((await afterCrash()).finishable).toBeNull();
    },
  );

  test('can not, where the write is of an earlier run, or the device was begun again since', async () => {
    const { device, runId } = await begun();
    await device.accepted('a');
    expect((await record.openRun([1], { manifest: '/other.csv' })).rows[0]?.finishable).toBeNull();
    await device.attempt(runId);
    expect((await afterCrash()).finishable).toBeNull();
  });

  test('is then done: the attempt has passed, and the write has left', async () => {
    const { device, runId } = await begun();
    await device.accepted('a');
    await record.settle(runId, 1, 'pass', { cloud: 'accepted', fingerprint: 'a' });
    expect(device.story()).toEqual(['key 1 a: active, send accepted', 'writes: left']);
    expect(record.list('SELECT outcome FROM attempts')).toEqual(['pass']);
    expect(await afterCrash()).toMatchObject({ settled: true, finishable: null });
    expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  });

  test('and is not seen again leaves its write as it is', async () => {
    const { device, runId } = await begun();
    await device.writing('a');
    await record.settle(runId, 1, 'unseen', { code: 'NOT_SEEN' });
    expect(device.story().at(-1)).toBe('writes: writing');
    expect(record.list('SELECT ended_at FROM attempts')).toEqual([null]);
  });
});

describe('a row that is settled', () => {
  test('is worked on all the same, as long as a write of the device is to be finished', async () => {
    const { device, runId } = await begun();
    await device.refused('a', 'old');
    await record.settle(runId, 1, 'fail', { code: 'ROLLBACK_FAILED' });
    await record.finish(runId);
    const plan = { job: 'rekey', manifest: '/rack.csv', deviceIds: [deviceIdOf(1)], again: false, retryFailed: false };
    expect((await record.store.call('planRows', plan))[0]).toMatchObject({ settled: false, outcome: 'fail' });
    expect(await afterCrash()).toMatchObject({ settled: false, outcome: 'fail' });
  });
});

describe('the leases that a dead run has left', () => {
  test('are free at the start of the next, and count as unknown; those of a replay stay', async () => {
    const [one, two] = [await record.device(1), await record.device(2)];
    const [first, second] = [await one.leftToOutbox(), await two.leftToOutbox()];
    await one.lease(first.sendId, { owner: 'run:7' });
    await two.lease(second.sendId, { owner: 'replay:8' });
    await record.openRun([1, 2]);
    expect(record.query('SELECT lease_owner AS owner, unknowns FROM sends ORDER BY id')).toEqual([
      { owner: null, unknowns: 1 },
      { owner: 'replay:8', unknowns: 0 },
    ]);
  });
});
