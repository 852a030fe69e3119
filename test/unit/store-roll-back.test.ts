import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { faultOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

/** Refused, rolling back, rolled back to the key with this fingerprint. @returns the send that is pending then */
async function rollBack(writeId: number, old: string | null, resend = false): Promise<number | null> {
  const { store } = record;
  if (!(await store.call('markRollingBack', { writeId, at: record.at }))) throw new Error('a send is in flight');
  const again = resend && old !== null ? { fingerprint: old, publicPem: `pem of ${old}` } : null;
  const rolled = { writeId, at: record.at, oldFingerprint: old, resend: again };
  return (await store.call('markRolledBack', rolled)).sendId;
}

describe('a refused write is rolled back', () => {
  test('in phases, and no key is active then, where the one before was not made here', async () => {
    const { writeId } = await device.refused('a', 'field');
    expect(device.story()).toEqual(['key 1 a: active, send refused', 'writes: refused']);
    await record.store.call('markRollingBack', { writeId, at: record.at });
    expect(device.story()).toEqual(['key 1 a: active, send refused', 'writes: rolling-back']);
    expect(await rollBack(writeId, 'field')).toBeNull();
    expect(device.story()).toEqual(['key 1 a: deactivated, send refused', 'writes: rolled-back']);
    expect(await record.store.call('openWrite', device.id)).toBeNull();
  });

  test('to a key that the cloud has accepted: it is current again, and there is nothing to send', async () => {
    await device.accepted('a', { left: true });
    const { writeId } = await device.refused('b', 'a');
    expect(await rollBack(writeId, 'a')).toBeNull();
    expect(device.story()).toEqual([
      'key 1 a: active, send accepted',
      'key 2 b: deactivated, send refused',
      'writes: left, rolled-back',
    ]);
  });

  test('to a key that the cloud has not had yet: its send is pending again', async () => {
    const first = await device.leftToOutbox('a');
    const { writeId } = await device.refused('b', 'a');
    expect(device.story()[0]).toBe('key 1 a: deactivated, send superseded');
    expect(await rollBack(writeId, 'a')).toBe(first.sendId);
    expect(device.story()).toEqual([
      'key 1 a: active, send pending',
      'key 2 b: deactivated, send refused',
      'writes: left, rolled-back',
    ]);
  });

  test('after an uncertain refusal: an accepted key is sent once more', async () => {
    const first = await device.accepted('a', { left: true });
    const { writeId } = await device.refused('b', 'a', 'stored');
    expect((await record.store.call('openWrite', device.id))?.doubt).toBe('stored');
    expect(await rollBack(writeId, 'a', true)).toBe(first.sendId);
    expect(device.story()[0]).toBe('key 1 a: active, send pending');
  });

  test('after an uncertain refusal: a key that was not made here is put on record, and sent', async () => {
    const { writeId } = await device.refused('a', 'field', 'stored');
    const sendId = await rollBack(writeId, 'field', true);
    expect(device.story()).toEqual([
      'key 1 a: deactivated, send refused',
      'key 2 field: active, send pending',
      'writes: rolled-back',
    ]);
    expect(record.query('SELECT origin, sealed_private AS sealed, public_pem AS pem FROM keys WHERE id = 2')).toEqual([
      { origin: 'restored', sealed: null, pem: 'pem of field' },
    ]);
    expect(await device.lease(sendId!)).toMatchObject({ generation: 2, productId: '4711', publicPem: 'pem of field' });
    expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  });

  test('to the newest of the keys with that fingerprint', async () => {
    await device.accepted('a', { left: true });
    await device.accepted('b', { left: true });
    await device.leftToOutbox('a');
    const { writeId } = await device.refused('c', 'a');
    await rollBack(writeId, 'a');
    expect(device.story().slice(0, 3)).toEqual([
      'key 1 a: deactivated, send accepted',
      'key 2 b: deactivated, send accepted',
      'key 3 a: active, send pending',
    ]);
  });

  test('again, where the one before had been refused as well', async () => {
    await device.accepted('a', { left: true });
    const first = await device.refused('b', 'a');
    await rollBack(first.writeId, 'a');
    const second = await device.refused('c', 'a');
    await rollBack(second.writeId, 'a');
    expect(device.story()).toEqual([
      'key 1 a: active, send accepted',
      'key 2 b: deactivated, send superseded',
      'key 3 c: deactivated, send refused',
      'writes: left, rolled-back, rolled-back',
    ]);
  });

  test('not while a send of the device is in flight', async () => {
    const { writeId, sendId } = await device.refused('a');
    const at = record.at;
    await record.store.call('retrySend', { deviceId: device.id, at });
    await device.lease(sendId, { untilAt: at + 1000 });
    await record.store.call('recordUnknown', {
      owner: 'run:1',
      mayLandLate: false,
      sendId,
      status: 503,
      error: 'busy',
      nextAt: 0,
      at: record.at,
    });
    expect((await faultOf(rollBack(writeId, null))).message).toContain('touched 0 rows');
    expect(device.story()).toEqual(['key 1 a: active, send pending', 'writes: unknown']);
  });
});

describe('a write is abandoned', () => {
  test('where other bytes were found: its key is not sent any more', async () => {
    const { writeId } = await device.verified('a');
    await record.store.call('abandonWrite', { writeId, at: record.at, oldFingerprint: null });
    expect(device.story()).toEqual(['key 1 a: deactivated, send superseded', 'writes: abandoned']);
    await device.prepared('b');
  });

  test('where the old bytes were found: the key before it is current again', async () => {
    await device.leftToOutbox('a');
    const { writeId } = await device.verified('b', 'a');
    await record.store.call('abandonWrite', { writeId, at: record.at, oldFingerprint: 'a' });
    expect(device.story()).toEqual([
      'key 1 a: active, send pending',
      'key 2 b: deactivated, send superseded',
      'writes: left, abandoned',
    ]);
  });

  test('where an earlier key was found than the one on record, whose send goes no more', async () => {
    await device.leftToOutbox('a');
    await device.leftToOutbox('b');
    const { writeId } = await device.writing('c', 'a');
    await record.store.call('abandonWrite', { writeId, at: record.at, oldFingerprint: 'a' });
    expect(device.story()).toEqual([
      'key 1 a: active, send pending',
      'key 2 b: deactivated, send superseded',
      'key 3 c: deactivated, send superseded',
      'writes: left, left, abandoned',
    ]);
    expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  });

  test('and a send of it that was accepted stays so', async () => {
    const { writeId } = await device.accepted('a');
    await record.store.call('abandonWrite', { writeId, at: record.at, oldFingerprint: null });
    expect(device.story()).toEqual(['key 1 a: deactivated, send accepted', 'writes: abandoned']);
  });

  test('in any phase, the last of a roll-back among them, and not twice', async () => {
    const { writeId } = await device.refused('a');
    await record.store.call('markRollingBack', { writeId, at: record.at });
    const abandon = () => record.store.call('abandonWrite', { writeId, at: record.at, oldFingerprint: null });
    await abandon();
    expect((await faultOf(abandon())).message).toContain('touched 0 rows');
  });
});
