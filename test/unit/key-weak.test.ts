import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

/** Each weak device with its reasons. */
async function weak(): Promise<Record<string, string[]>> {
  const { weak: found } = await record.store.call('weakDevices', { after: '', limit: 1000 });
  return Object.fromEntries(found.map(({ deviceId, reasons }) => [deviceId, reasons.map(({ reason }) => reason)]));
}

const compromise = (fingerprint: string) =>
  record.store.call('markKey', { prefix: fingerprint, state: 'compromised', why: 'lost', at: record.at });

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);

describe('devices with a weak key', () => {
  test('there are none where all is well', async () => {
    await device.accepted(A, { left: true });
    expect(await weak()).toEqual({});
  });

  test('what the firmware misreads, until a verified key of ours takes its place', async () => {
    await device.backup(await device.attempt(), null);
    expect(await weak()).toEqual({ [device.id]: ['misread'] });
    await device.accepted(A, { left: true });
    expect(await weak()).toEqual({});
    await device.backup(await device.attempt(), null); // somebody wiped it since
    expect(await weak()).toEqual({ [device.id]: ['misread'] });
  });

  test('one key on two devices, ours or found', async () => {
    const other = await record.device(2);
    await device.accepted(A, { left: true });
    await other.backup(await other.attempt(), A);
    expect(await weak()).toEqual({ [device.id]: ['shared'], [other.id]: ['shared'] });
    await other.accepted(B, { left: true });
    expect(await weak()).toEqual({ [device.id]: ['shared'] }); // the other may have a copy
  });

  test('a key that the cloud has not accepted, with what it said', async () => {
    const { sendId } = await device.verified(A);
    await device.lease(sendId);
    await device.refuse(sendId);
    const { weak: found } = await record.store.call('weakDevices', { after: '', limit: 10 });
    expect(found[0]?.reasons).toEqual([
      { reason: 'not-accepted', detail: 'the cloud has not accepted its key (refused: not yours)' },
    ]);
  });

  test('a write that was begun and never verified', async () => {
    await device.writing(A, B);
    expect(await weak()).toEqual({ [device.id]: ['not-verified'] });
  });

  test('a key that is marked compromised, as long as it is on the device', async () => {
    await device.accepted(A, { left: true });
    await compromise(A);
    expect(await weak()).toEqual({ [device.id]: ['compromised'] });
    await device.accepted(B, { left: true });
    expect(await weak()).toEqual({});
  });

  test('are read in pages', async () => {
    for (let n = 2; n < 8; n += 1) {
      const one = await record.device(n);
      await one.backup(await one.attempt(), null);
    }
    const seen: string[] = [];
    let after: string | null = '';
    while (after !== null) {
      const page: { weak: { deviceId: string }[]; next: string | null } = await record.store.call('weakDevices', {
        after,
        limit: 2,
      });
      seen.push(...page.weak.map(({ deviceId }) => deviceId));
      after = page.next;
    }
    expect(seen).toHaveLength(6);
    expect(new Set(seen).size).toBe(6);
  });
});

describe('devices that `run --only-compromised` is for', () => {
  const chosen = (more: Partial<{ job: string; manifest: string }> = {}) =>
    record.store.call('compromisedDevices', { job: 'rekey', manifest: '/rack.csv', deviceIds: [device.id], ...more });

  test('are those that carry a marked key, made here or found', async () => {
    await device.accepted(A, { left: true });
    expect(await chosen()).toEqual([]);
    await compromise(A);
    expect(await chosen()).toEqual([device.id]);
    await device.accepted(B, { left: true });
    expect(await chosen()).toEqual([]);
    await device.backup(await device.attempt(), A);
    expect(await chosen()).toEqual([device.id]);
  });

  test('are those on which a write over a marked key is not through', async () => {
    await device.backup(await device.attempt(), A);
    await compromise(A);
    for (const take of ['writing', 'verified'] as const) {
      const one = await record.device(take === 'writing' ? 2 : 3);
      await one[take](B, A);
      expect(
        await record.store.call('compromisedDevices', { job: 'rekey', manifest: '/x', deviceIds: [one.id] }),
      ).toEqual([one.id]);
    }
  });

  test('are those whose row a crash left open after the write was through', async () => {
    const { runId } = await record.openRun([1]);
    await device.backup(await device.attempt(runId), A);
    await compromise(A);
    const { writeId } = await device.verified(B, A, runId);
    await record.store.call('markLeft', { writeId, at: record.at });
    expect(await chosen()).toEqual([device.id]);
    expect(await chosen({ manifest: '/other.csv' })).toEqual([]);
    await record.settle(runId, 1, 'pass');
    expect(await chosen()).toEqual([]);
  });

  test('are begun anew though their rows are settled; others stay settled', async () => {
    const { runId } = await record.openRun([1, 2]);
    const other = await record.device(2);
    await device.accepted(A, { left: true, runId });
    await other.accepted(B, { left: true, runId });
    for (const n of [1, 2]) await record.settle(runId, n, 'pass');
    await record.finish(runId);
    await compromise(A);
    const { rows } = await record.openRun([1, 2], { partly: true, onlyCompromised: true });
    expect(rows.map(({ settled, finishable }) => [settled, finishable])).toEqual([
      [false, null],
      [true, null],
    ]);
    const plan = await record.store.call('planRows', {
      job: 'rekey',
      manifest: '/rack.csv',
      deviceIds: [device.id, other.id],
      again: false,
      retryFailed: false,
      onlyCompromised: true,
    });
    expect(plan.map(({ settled }) => settled)).toEqual([false, true]);
  });
});

test('a backup that was put back is what is on the device, key or none', async () => {
  const attemptId = await device.attempt();
  const blank = await device.backup(attemptId, null);
  await device.accepted(A, { left: true });
  const again = await device.attempt();
  const { writeId } = await record.store.call('prepareWrite', {
    deviceId: device.id,
    attemptId: again,
    backupId: await device.backup(again, A),
    restores: blank,
    alternate: 1,
    offset: 34,
    length: 1600,
    oldSha256: 'o',
    newSha256: 'n',
    key: null,
    at: record.at,
  });
  await record.store.call('markWriting', { writeId, at: record.at });
  await record.store.call('markVerified', { writeId, at: record.at });
  expect(await weak()).toEqual({ [device.id]: ['misread'] });
  const found = await record.store.call('keyAt', { deviceId: device.id, time: record.at });
  expect(found).toMatchObject({ since: { source: 'put-back', classification: 'blank' }, by: { run: device.runId } });
});
