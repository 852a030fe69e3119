import Database from 'better-sqlite3';
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

/** A moment after all that the bench has put down so far. */
const LATER = 1_000_000;

describe('a lease', () => {
  test('gives the one who has it all that it takes to send', async () => {
    const { sendId } = await device.leftToOutbox('a');
    expect(await device.lease(sendId, { owner: 'replay:7', at: LATER, untilAt: LATER + 50 })).toEqual({
      sendId,
      deviceId: device.id,
      generation: 1,
      fingerprint: 'a',
      publicPem: 'pem of a',
      productId: '4711',
      unknowns: 0,
      unanswered: 0,
      attempts: 1,
    });
    expect(record.send(sendId)).toMatchObject({ lease_owner: 'replay:7', lease_until: LATER + 50 });
  });

  test('is given to one of two who ask for it at once', async () => {
    const { sendId } = await device.leftToOutbox();
    const [one, two] = await Promise.all([
      device.lease(sendId, { owner: 'a', at: LATER, untilAt: LATER + 10 }),
      device.lease(sendId, { owner: 'b', at: LATER, untilAt: LATER + 10 }),
    ]);
    expect([one === null, two === null]).toEqual([false, true]);
    expect(await record.due(LATER)).toEqual([]);
    expect(record.send(sendId)).toMatchObject({ lease_owner: 'a', attempts: 1 });
  });

  test('that ran out is given to the next, and counts as an attempt whose end is not known', async () => {
    const { sendId } = await device.leftToOutbox();
    await device.lease(sendId, { owner: 'dead', at: LATER, untilAt: LATER + 10 });
    expect(await device.lease(sendId, { at: LATER + 9 })).toBeNull();
    expect(await record.due(LATER + 10)).toEqual([sendId]);
    expect(await device.lease(sendId, { at: LATER + 10 })).toMatchObject({ attempts: 2, unknowns: 1 });
  });

  test('is given again after an answer, and then nothing is unknown', async () => {
    const { sendId } = await device.leftToOutbox();
    await device.lease(sendId);
    await device.refuse(sendId);
    await record.store.call('retrySend', { deviceId: device.id, at: record.at });
    expect(await device.lease(sendId)).toMatchObject({ attempts: 2, unknowns: 0 });
  });

  test('is given for the pending send alone', async () => {
    const held = await (await record.device(2)).prepared();
    const accepted = await (await record.device(3)).accepted();
    const first = await device.leftToOutbox('a');
    await device.leftToOutbox('b');
    for (const { sendId } of [held, accepted, first, { sendId: 99 }]) expect(await device.lease(sendId)).toBeNull();
  });

  test('of a send whose time has not come is given to one who does not mind', async () => {
    const { sendId } = await device.leftToOutbox();
    await device.lease(sendId);
    await device.unknown(sendId, LATER);
    expect(await device.lease(sendId, { at: LATER - 1, ignoreDue: false })).toBeNull();
    expect(await record.due(LATER - 1)).toEqual([]);
    expect(await record.due(LATER - 1, { ignoreDue: true })).toEqual([sendId]);
    expect(await device.lease(sendId, { at: LATER, ignoreDue: false, untilAt: LATER - 5 })).not.toBeNull();
    expect(await device.lease(sendId, { at: LATER - 1, ignoreDue: true })).not.toBeNull();
  });

  test('keeps the device from being written, and from being rolled back', async () => {
    const { store } = record;
    const first = await device.leftToOutbox('a');
    await device.lease(first.sendId, { at: LATER, untilAt: LATER + 10 });
    const { writeId } = await device.prepared('b');
    expect(await store.call('markWriting', { writeId, at: LATER + 9 })).toBe(false);
    expect(device.story().at(-1)).toBe('writes: left, prepared');
    expect(await store.call('markWriting', { writeId, at: LATER + 10 })).toBe(true);
  });

  test('keeps a session from leaving its send to the outbox', async () => {
    const { writeId, sendId } = await device.verified('a');
    await device.lease(sendId, { at: LATER, untilAt: LATER + 10 });
    const leave = (at: number) => record.store.call('markLeftToOutbox', { writeId, at });
    expect(await leave(LATER + 9)).toBe('in-flight');
    expect(device.story().at(-1)).toBe('writes: verified');
    expect(await leave(LATER + 10)).toBe('unknown');
  });

  test('of one device is no hindrance for another', async () => {
    const other = await record.device(2);
    const [one, two] = [await device.leftToOutbox(), await other.leftToOutbox()];
    expect(await record.due(LATER)).toEqual([one.sendId, two.sendId]);
    expect(await record.due(LATER, { deviceId: other.id })).toEqual([two.sendId]);
    await device.lease(one.sendId, { at: LATER });
    expect(await record.due(LATER)).toEqual([two.sendId]);
    expect(await other.lease(two.sendId, { at: LATER })).not.toBeNull();
  });
});

describe('none of the sends of a device goes', () => {
  test.each(['writing', 'refused', 'rolling-back'] as const)('while it is `%s`', async phase => {
    const { sendId } = await device.leftToOutbox('a');
    const next = phase === 'writing' ? await device.writing('b', 'a') : await device.refused('b', 'a');
    if (phase === 'rolling-back') await record.store.call('markRollingBack', { writeId: next.writeId, at: record.at });
    for (const each of [sendId, next.sendId]) expect(await device.lease(each)).toBeNull();
    expect(await record.due(LATER, { ignoreDue: true })).toEqual([]);
  });

  test.each(['writing', 'refused', 'rolling-back'])('while it is `%s`, though one were pending', async phase => {
    const { sendId } = await device.verified('a');
    const db = new Database(record.path);
    db.prepare('UPDATE writes SET phase = ?').run(phase);
    db.close();
    expect(await device.lease(sendId)).toBeNull();
    expect(await record.due(LATER, { ignoreDue: true })).toEqual([]);
  });

  test('but while it is only prepared, that of the key on it does', async () => {
    const { sendId } = await device.leftToOutbox('a');
    await device.prepared('b', 'a');
    expect(await record.due(LATER)).toEqual([sendId]);
    expect(await device.lease(sendId)).not.toBeNull();
  });
});

describe('an answer', () => {
  test('that is clear is put down, and the lease is free', async () => {
    const { sendId } = await device.verified('a');
    await device.lease(sendId);
    await device.unknown(sendId, 0);
    await device.lease(sendId);
    await record.store.call('recordAccepted', { owner: 'run:1', sendId, status: 201, at: LATER });
    expect(record.send(sendId)).toMatchObject({
      state: 'accepted',
      attempts: 2,
      unknowns: 0,
      last_status: 201,
      last_error: null,
      accepted_at: LATER,
      lease_owner: null,
      lease_until: null,
    });
    expect(await record.store.call('stateOf', sendId)).toBe('accepted');
  });

  test('that is a refusal parks the send with its reason, and others go on', async () => {
    const other = await record.device(2);
    const [{ sendId }, two] = [await device.leftToOutbox(), await other.leftToOutbox()];
    await device.lease(sendId);
    await device.refuse(sendId);
    expect(record.send(sendId)).toMatchObject({
      state: 'refused',
      last_status: 403,
      last_error: 'not yours',
      lease_until: null,
    });
    expect(await record.due(LATER)).toEqual([two.sendId]);
  });

  test('that is none is counted, with the time of the next attempt; a bad token is not counted', async () => {
    const { sendId } = await device.verified('a');
    for (const status of [503, null, 429, 401]) {
      await device.lease(sendId);
      await device.unknown(sendId, LATER, status);
    }
    expect(record.send(sendId)).toMatchObject({
      state: 'pending',
      attempts: 4,
      unknowns: 3,
      next_at: LATER,
      last_status: 401,
    });
    expect(device.story().at(-1)).toBe('writes: unknown');
  });

  test('that comes late, for a key that is no longer on the device, does not make it current', async () => {
    const first = await device.leftToOutbox('a');
    await device.lease(first.sendId, { at: 1, untilAt: 2 });
    await device.verified('b');
    await record.store.call('recordAccepted', { owner: 'run:1', sendId: first.sendId, status: 200, at: record.at });
    expect(device.story()).toEqual([
      'key 1 a: deactivated, send superseded',
      'key 2 b: active, send pending',
      'writes: left, verified',
    ]);
    await device.refuse(first.sendId);
    await device.unknown(first.sendId, LATER);
    expect(device.story().slice(0, 2)).toEqual([
      'key 1 a: deactivated, send superseded',
      'key 2 b: active, send pending',
    ]);
  });
});
