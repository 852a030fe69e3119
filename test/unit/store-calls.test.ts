import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { callOf, type CallKind } from '#src/core/cloud-calls.ts';
import { leaseOwner } from '#src/store/ops/lease-owner.ts';
import { faultOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

/** A moment after all that the bench has put down so far. */
const LATER = 1_000_000;

const queue = async (kind: CallKind, name = 'A-01', more: { unlessDone?: boolean; of?: RecordedDevice } = {}) => {
  const { unlessDone = false, of = device } = more;
  const call = callOf(kind, { deviceId: of.id, productId: '4711', name })!;
  return record.store.call('queueCall', { ...call, unlessDone, at: record.at });
};

const due = async (kind: CallKind, at = LATER, ignoreDue = false): Promise<number[]> =>
  (await record.store.call('dueCalls', { kind, at, ignoreDue, deviceId: null })).map(({ callId }) => callId);

const lease = (callId: number, more: { at?: number; untilAt?: number; owner?: string; ignoreDue?: boolean } = {}) =>
  record.store.call('leaseCall', { callId, owner: 'run:1', at: LATER, untilAt: LATER + 10, ignoreDue: true, ...more });

const done = (callId: number, at = LATER) =>
  record.store.call('recordCallDone', { callId, owner: 'run:1', status: 200, at });

const refuse = (callId: number) =>
  record.store.call('recordCallRefused', { callId, owner: 'run:1', status: 400, error: 'no such name', at: LATER });

const states = (): unknown[] => record.list(`SELECT kind || ' ' || state FROM cloud_calls ORDER BY id`);

const isWhole = async (): Promise<void> => {
  expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  expect(await record.store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
};

describe('a call', () => {
  test('is on record before it is made, and its answer ends it', async () => {
    const { callId, state } = await queue('name');
    expect([state, await due('name')]).toEqual(['pending', [callId]]);
    expect(await lease(callId)).toEqual({
      callId,
      deviceId: device.id,
      kind: 'name',
      payload: '{"name":"A-01"}',
      productId: null,
      attempts: 1,
      keyAcceptedAt: null,
    });
    await done(callId);
    expect(record.query('SELECT state, last_status, last_error, lease_owner FROM cloud_calls')).toEqual([
      { state: 'done', last_status: 200, last_error: null, lease_owner: null },
    ]);
    expect(await due('name', LATER, true)).toEqual([]);
    await isWhole();
  });

  test('that is the same as one that waits is that one; one that is done is made again, unless that will do', async () => {
    const first = await queue('name');
    expect(await queue('name')).toEqual(first);
    await lease(first.callId);
    await done(first.callId);
    expect(await queue('name', 'A-01', { unlessDone: true })).toEqual({ ...first, state: 'done' });
    expect(await queue('name')).toMatchObject({ state: 'pending' });
    expect(states()).toEqual(['name done', 'name pending']);
  });

  test('to another name supersedes the one that waits, or was refused; late answers to that one change nothing', async () => {
    const one = await queue('name', 'A-01');
    await lease(one.callId);
    const two = await queue('name', 'A-02');
    expect(states()).toEqual(['name superseded', 'name pending']);
    expect(await lease(two.callId, { at: LATER + 1 })).toBeNull(); // the first one is still on its way
    await done(one.callId);
    expect(states()).toEqual(['name superseded', 'name pending']);
    expect(await lease(two.callId, { at: LATER + 1 })).not.toBeNull();
    await refuse(two.callId);
    await queue('name', 'A-03');
    expect(states()).toEqual(['name superseded', 'name superseded', 'name pending']);
    await isWhole();
  });

  test('without a clear answer is due again at its time, or at once for whoever does not mind', async () => {
    const { callId } = await queue('name');
    await lease(callId);
    const unknown = { callId, owner: 'run:1', status: 503, error: 'busy', at: LATER, nextAt: LATER + 100 };
    await record.store.call('recordCallUnknown', unknown);
    expect([await due('name', LATER + 99), await due('name', LATER + 100)]).toEqual([[], [callId]]);
    expect(await due('name', LATER + 1, true)).toEqual([callId]);
    expect(await lease(callId, { at: LATER + 99, ignoreDue: false })).toBeNull();
    expect(await lease(callId, { at: LATER + 100, ignoreDue: false })).toMatchObject({ attempts: 2 });
  });
});

describe('the order of a device', () => {
  test('is its key, then its product, then its name', async () => {
    const { sendId } = await device.leftToOutbox('a');
    const name = await queue('name');
    const product = await queue('add-to-product');
    expect([await due('add-to-product'), await due('name')]).toEqual([[], []]);
    expect([await lease(product.callId), await lease(name.callId)]).toEqual([null, null]);
    await device.lease(sendId, { at: LATER, untilAt: LATER + 5 });
    await record.store.call('recordAccepted', { owner: 'run:1', sendId, status: 200, at: LATER });
    expect([await due('add-to-product'), await due('name')]).toEqual([[product.callId], []]);
    await lease(product.callId);
    expect(await lease(name.callId, { at: LATER + 20 })).toBeNull();
    await done(product.callId);
    expect(await due('name')).toEqual([name.callId]);
  });

  test('waits while its key was refused, or the device is being written; others go on', async () => {
    const other = await record.device(2);
    await other.accepted('b', { left: true });
    await queue('name', 'A-02', { of: other });
    await device.refused('a');
    const { callId } = await queue('name');
    expect(await due('name')).toHaveLength(1);
    expect(await lease(callId)).toBeNull();
    await other.writing('c', 'b');
    expect(await due('name')).toEqual([]);
  });

  test('does not wait for a product that refused the device', async () => {
    const product = await queue('add-to-product');
    const name = await queue('name');
    await lease(product.callId);
    await refuse(product.callId);
    expect(await due('name')).toEqual([name.callId]);
  });
});

describe('a lease', () => {
  test('is given to one of two who ask at once, and to the next when it has run out', async () => {
    const { callId } = await queue('name');
    const both = await Promise.all([lease(callId, { owner: 'a' }), lease(callId, { owner: 'b' })]);
    expect(both.map(one => one === null)).toEqual([false, true]);
    expect(await due('name', LATER + 9, true)).toEqual([]);
    expect(await due('name', LATER + 10, true)).toEqual([callId]);
    expect(await lease(callId, { at: LATER + 10, owner: 'b' })).toMatchObject({ attempts: 2 });
  });

  test('is not given while the key of the device is on its way once more', async () => {
    const { sendId } = await device.accepted('a', { left: true });
    const { callId } = await queue('name');
    const db = new Database(record.path);
    db.prepare(`UPDATE sends SET lease_owner = 'replay:1', lease_until = ? WHERE id = ?`).run(LATER + 5, sendId);
    db.close();
    expect(await lease(callId)).toBeNull();
    expect(await lease(callId, { at: LATER + 5 })).not.toBeNull();
  });

  test('of a process that died is free at once', async () => {
    const { callId } = await queue('name');
    const dead = leaseOwner('run').replace(/\d+@/, '999999999@');
    await lease(callId, { owner: dead, untilAt: LATER * 2 });
    expect(await due('name')).toEqual([callId]);
  });
});

describe('by hand', () => {
  test('a refused call is retried, a waiting one dropped for a reason, and one that is done is left alone', async () => {
    const product = await queue('add-to-product');
    await lease(product.callId);
    await done(product.callId);
    const name = await queue('name');
    await lease(name.callId);
    await refuse(name.callId);
    expect(await record.store.call('retryCalls', { deviceId: device.id, at: record.at })).toEqual(['name']);
    expect(states()).toEqual(['add-to-product done', 'name pending']);
    const drop = { deviceId: device.id, why: 'scrapped', at: record.at };
    expect(await record.store.call('dropCalls', drop)).toEqual(['name']);
    expect(await record.store.call('callsReport', 'dropped')).toMatchObject([
      { kind: 'name', state: 'dropped', nextAt: null, lastError: 'dropped: scrapped' },
    ]);
    expect(await record.store.call('dropCalls', drop)).toEqual([]);
    expect(await record.store.call('pendingCalls', null)).toBe(0);
    await isWhole();
  });

  test('one that is on its way is not dropped', async () => {
    const { callId } = await queue('name');
    await lease(callId);
    const dropping = record.store.call('dropCalls', { deviceId: device.id, why: 'x', at: LATER + 1 });
    expect((await faultOf(dropping)).code).toBe('SEND_IN_FLIGHT');
  });
});

test('what was recorded of a call neither changes nor goes, and there is one of a kind that waits', async () => {
  const { callId } = await queue('name');
  await lease(callId);
  await done(callId);
  await queue('name', 'A-02');
  const db = new Database(record.path);
  const refusal = (sql: string): string => {
    try {
      db.exec(sql);
      return 'it was done';
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(
    [
      'DELETE FROM cloud_calls',
      `UPDATE cloud_calls SET payload = '{}' WHERE id = 1`,
      `UPDATE cloud_calls SET state = 'pending' WHERE id = 1`,
      `UPDATE cloud_calls SET payload = 'no json' WHERE id = 2`,
      `INSERT INTO cloud_calls (device_id, kind, payload, state, created_at, updated_at)
         VALUES ('${device.id}', 'name', '{}', 'pending', 1, 1)`,
      `INSERT INTO cloud_calls (device_id, kind, payload, state, created_at, updated_at)
         VALUES ('${device.id}', 'add-to-product', '{}', 'pending', 1, 1)`,
    ].map(refusal),
  ).toEqual([
    'a call never goes',
    'a call never changes',
    'a call that is done or superseded stays so',
    'a call never changes',
    'UNIQUE constraint failed: cloud_calls.device_id, cloud_calls.kind',
    expect.stringContaining('CHECK constraint failed') as string,
  ]);
  db.close();
});

test('the journal tells of each call what became of it', async () => {
  const { callId } = await queue('name', 'A-01');
  await lease(callId);
  await queue('name', 'A-02');
  await done(callId);
  const told = record
    .list(`SELECT body FROM journal WHERE body LIKE '%"call":%' ORDER BY seq`)
    .map(body => JSON.parse(body as string) as { event: string; device: string; call: string });
  expect(told.map(({ event, call }) => `${event} ${call}`)).toEqual([
    'call-queued name',
    'call-made name',
    'call-queued name',
    'call-superseded name',
    'call-done name',
  ]);
  expect(new Set(told.map(event => event.device))).toEqual(new Set([device.id]));
});
