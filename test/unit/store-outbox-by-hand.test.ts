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

/** A moment after all that the bench has put down so far. */
const LATER = 1_000_000;

describe('by hand', () => {
  const retry = () => record.store.call('retrySend', { deviceId: device.id, at: LATER });
  const drop = () => record.store.call('dropSend', { deviceId: device.id, why: 'sold', at: LATER });

  test('a refused, a dropped and a waiting send are sent again at once', async () => {
    const { sendId } = await device.leftToOutbox();
    await device.lease(sendId);
    await device.unknown(sendId, LATER * 2);
    await retry();
    expect(await record.due(LATER)).toEqual([sendId]);
    await device.lease(sendId);
    await device.refuse(sendId);
    await retry();
    expect(await record.due(LATER)).toEqual([sendId]);
    await drop();
    await retry();
    expect(await record.due(LATER)).toEqual([sendId]);
  });

  test('a send is dropped with its reason, unless it is on its way', async () => {
    const { sendId } = await device.leftToOutbox();
    await device.lease(sendId, { at: LATER - 1, untilAt: LATER + 1 });
    expect(await faultOf(drop())).toMatchObject({ code: 'SEND_IN_FLIGHT' });
    await device.unknown(sendId, LATER);
    await drop();
    expect(record.send(sendId)).toMatchObject({ state: 'dropped', last_error: 'dropped: sold' });
    expect(await record.due(LATER * 2, { ignoreDue: true })).toEqual([]);
  });

  test('there is nothing to retry or to drop in a send that was accepted, held or superseded', async () => {
    expect((await faultOf(retry())).message).toBe(`no send of device ${device.id} is on record`);
    const { writeId } = await device.prepared('a');
    expect((await faultOf(drop())).message).toBe(`the send of device ${device.id} is held: there is nothing to drop`);
    expect((await faultOf(retry())).message).toBe(`device ${device.id} does not carry the key of that send any more`);
    await record.store.call('abandonWrite', { writeId, at: record.at, oldFingerprint: null });
    await device.accepted('b');
    const [retried, dropped] = [await faultOf(retry()), await faultOf(drop())];
    expect(retried.message).toBe(`the send of device ${device.id} is accepted: there is nothing to retry`);
    expect(dropped.message).toBe(`the send of device ${device.id} is accepted: there is nothing to drop`);
    expect([retried.code, dropped.code]).toEqual(['SEND_NOT_FOUND', 'SEND_NOT_FOUND']);
  });

  test('a send that was refused is retried though the device waits for its roll-back, which is then off', async () => {
    const { sendId } = await device.refused('a', 'old');
    await retry();
    expect(device.story()).toEqual(['key 1 a: active, send pending', 'writes: unknown']);
    expect(await record.due(LATER)).toEqual([sendId]);
  });

  test('a send is not retried while its key is being taken from the device, nor afterwards', async () => {
    const { writeId } = await device.refused('a', 'old');
    await record.store.call('markRollingBack', { writeId, at: record.at });
    expect((await faultOf(retry())).message).toContain('is being put back');
    await record.store.call('markRolledBack', { writeId, at: record.at, oldFingerprint: null, resend: null });
    expect((await faultOf(retry())).message).toContain('does not carry the key of that send any more');
    expect(device.story()).toEqual(['key 1 a: deactivated, send refused', 'writes: rolled-back']);
  });
});
