import { beforeEach, afterEach, describe, expect, test } from 'vitest';
import { isOwnerAlive, leaseOwner } from '#src/store/ops/lease-owner.ts';
import { deviceIdOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

const MINUTE = 60_000;

async function accept(sendId: number, at: number): Promise<boolean> {
  await device.lease(sendId, { at, untilAt: at + 1000 });
  return record.store.call('recordAccepted', { owner: 'run:1', sendId, status: 200, at });
}

/** The key `a` was sent without an answer, and the device carries `b` by now. */
async function overtaken(status: number | null): Promise<{ a: number; b: number; at: number }> {
  const a = await device.leftToOutbox('a');
  await device.lease(a.sendId);
  await device.unknown(a.sendId, 0, status);
  const b = await device.leftToOutbox('b');
  return { a: a.sendId, b: b.sendId, at: record.at };
}

describe('a key that is accepted while an older one may yet land', () => {
  test('is accepted, and due once more two minutes later', async () => {
    const { b, at } = await overtaken(null);
    expect(await accept(b, at)).toBe(false);
    expect(record.send(b)).toMatchObject({ state: 'accepted', accepted_at: at, confirm_at: at + 2 * MINUTE });
    expect(await record.due(at + MINUTE)).toEqual([]);
    expect(await record.due(at + 2 * MINUTE)).toEqual([b]);
    const later = at + 2 * MINUTE;
    expect(await accept(b, later)).toBe(true);
    expect(record.send(b)).toMatchObject({ state: 'accepted', accepted_at: later, confirm_at: null });
    expect(await record.due(later + 60 * MINUTE)).toEqual([]);
    expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  });

  test('waits for the time that the cloud asks for where the second try is not answered', async () => {
    const { b, at } = await overtaken(null);
    await accept(b, at);
    await device.lease(b, { at: at + 2 * MINUTE, untilAt: at + 3 * MINUTE });
    await record.store.call('recordUnknown', {
      owner: 'run:1',
      mayLandLate: false,
      sendId: b,
      status: 503,
      error: 'busy',
      nextAt: at + 9 * MINUTE,
      at: at + 2 * MINUTE,
    });
    expect(record.send(b)).toMatchObject({ state: 'accepted', confirm_at: at + 9 * MINUTE });
  });

  test('is never told again once the device carries another key', async () => {
    const { b, at } = await overtaken(null);
    await accept(b, at);
    const c = await device.leftToOutbox('c');
    expect(await record.due(at + 9 * MINUTE)).toEqual([c.sendId]);
    expect(await device.lease(b, { at: at + 9 * MINUTE })).toBeNull();
  });

  test('is settled at once where the older one had an answer, or is an hour old', async () => {
    const answered = await overtaken(503);
    expect(await accept(answered.b, answered.at)).toBe(true);
    const c = await device.leftToOutbox('c');
    await device.lease(c.sendId);
    await device.unknown(c.sendId, 0, null);
    const d = await device.leftToOutbox('d');
    expect(await accept(d.sendId, record.at + 61 * MINUTE)).toBe(true);
  });
});

describe('a lease', () => {
  test('that ran out and is another’s by now is not freed by an answer that comes late', async () => {
    const { sendId } = await device.leftToOutbox('a');
    await device.lease(sendId, { owner: 'replay:1', at: 5000, untilAt: 6000 });
    await device.lease(sendId, { owner: 'replay:2', at: 7000, untilAt: 9000 });
    const late = { sendId, owner: 'replay:1', mayLandLate: true, status: null, error: 'x', nextAt: 0, at: 8000 };
    await record.store.call('recordUnknown', late);
    expect(record.send(sendId)).toMatchObject({ lease_owner: 'replay:2', lease_until: 9000 });
    expect(await device.lease(sendId, { owner: 'replay:3', at: 8500 })).toBeNull();
  });

  test('of a process that has died is free, however far the clock jumped back', async () => {
    const { sendId } = await device.leftToOutbox('a');
    const dead = leaseOwner('replay').replace(/:\d+@/, ':999999999@');
    await device.lease(sendId, { owner: dead, at: 1e12, untilAt: 1e12 + 10_000 });
    expect(await record.due(5000, { ignoreDue: true })).toEqual([sendId]);
    expect(record.send(sendId)).toMatchObject({ lease_owner: null, unknowns: 1, unanswered: 1 });
  });

  test.each([
    ['this process', leaseOwner('run'), true],
    ['one that is not there', leaseOwner('run').replace(/:\d+@/, ':999999999@'), false],
    ['one of another boot or container, which nobody here can tell', 'run:999999999@00000000', true],
    ['something else', 'somebody', true],
  ])('of %s', (_, owner, alive) => {
    expect(isOwnerAlive(owner)).toBe(alive);
  });
});

test('after the clock jumped back, a send does not wait for a time that was set before', async () => {
  const { sendId } = await device.leftToOutbox('a');
  await device.lease(sendId, { at: 1e12, untilAt: 1e12 + 1 });
  await record.store.call('recordUnknown', {
    owner: 'run:1',
    mayLandLate: false,
    sendId,
    status: 503,
    error: 'busy',
    nextAt: 1e12 + 5000,
    at: 1e12,
  });
  expect(await record.due(1e12 + 100)).toEqual([]);
  expect(await record.due(1e9)).toEqual([sendId]);
});

describe('after the clock jumped back', () => {
  const rows = [{ deviceId: deviceIdOf(1), line: 2, port: null, name: null, productId: null, extra: {} }];
  const open = (at: number) => record.openRun([], { rows, at });

  test('the newest run says how a row ended, not the highest time', async () => {
    const first = await open(9000);
    await record.settle(first.runId, 1, 'fail', { at: 9001 });
    await record.finish(first.runId);
    const second = await record.openRun([], { rows, at: 500, retryFailed: true });
    await record.settle(second.runId, 1, 'pass', { at: 501 });
    await record.finish(second.runId);
    expect((await open(700)).rows).toMatchObject([{ settled: true, outcome: 'pass' }]);
  });

  test('a device that had gone through before a crash is still settled from the record', async () => {
    const { runId } = await open(9000);
    const write = await device.verified('a', null, runId);
    await record.store.call('markLeftToOutbox', { writeId: write.writeId, at: 5 });
    await record.store.call('markLeft', { writeId: write.writeId, at: 6 });
    expect((await open(10)).rows).toMatchObject([
      { settled: false, finishable: { outcome: 'pass', fingerprint: 'a', cloud: 'pending' } },
    ]);
  });
});
