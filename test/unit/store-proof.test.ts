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

const REASON = 'handshake: the server key on the device is wrong';

const refuse = (writeId: number) => record.store.call('recordProofRefused', { writeId, reason: REASON, at: record.at });

/** Of the newest event. */
function newest(): Record<string, unknown> {
  return JSON.parse(String(record.list('SELECT body FROM journal ORDER BY seq DESC LIMIT 1')[0])) as Record<
    string,
    unknown
  >;
}

describe('a key that the cloud has accepted, and whose handshake refuses the device', () => {
  test('is a refused one from then on, and waits for its roll-back', async () => {
    const { writeId, sendId } = await device.accepted('a');
    expect(await refuse(writeId)).toEqual({ doubt: 'stored' });
    expect(device.story()).toEqual(['key 1 a: active, send refused', 'writes: refused']);
    expect(record.send(sendId)).toMatchObject({ last_status: null, last_error: REASON, lease_owner: null });
    expect(await record.store.call('openWrite', device.id)).toMatchObject({ doubt: 'stored', proofRefused: REASON });
    expect(newest()).toMatchObject({ event: 'proof-refused', device: device.id, reason: REASON, fingerprint: 'a' });
    expect(await record.due(record.at, { ignoreDue: true })).toEqual([]);
    await expect(record.store.call('checkRecord', undefined)).resolves.toEqual([]);
  });

  test('makes way for the key before it, which the cloud is told again although it had accepted it', async () => {
    const first = await device.accepted('a', { left: true });
    const { writeId } = await device.accepted('b');
    const { doubt } = await refuse(writeId);
    expect(doubt).not.toBe('none');
    await record.store.call('markRollingBack', { writeId, at: record.at });
    const resend = { fingerprint: 'a', publicPem: 'pem of a' };
    const rolled = { writeId, at: record.at, oldFingerprint: 'a', resend };
    expect(await record.store.call('markRolledBack', rolled)).toEqual({ sendId: first.sendId });
    expect(device.story()).toEqual([
      'key 1 a: active, send pending',
      'key 2 b: deactivated, send refused',
      'writes: left, rolled-back',
    ]);
  });

  test('may land late where an earlier try of it got no clear answer', async () => {
    const { writeId, sendId } = await device.verified('a');
    await device.lease(sendId);
    await device.unknown(sendId, record.at, null);
    await device.lease(sendId);
    await record.store.call('recordAccepted', { owner: 'run:1', sendId, status: 200, at: record.at });
    expect(await refuse(writeId)).toEqual({ doubt: 'late' });
  });

  test('is none of the others: what is not accepted, or has left, is not refused by a handshake', async () => {
    const { writeId } = await device.verified('a');
    await expect(refuse(writeId)).rejects.toThrow('no key that the cloud has accepted');
    const other = await record.device(2);
    const left = await other.accepted('b', { left: true });
    await expect(refuse(left.writeId)).rejects.toThrow('no key that the cloud has accepted');
    expect(other.story()).toEqual(['key 1 b: active, send accepted', 'writes: left']);
  });

  test('one that the cloud refused itself says nothing of a handshake', async () => {
    await device.refused('a');
    expect(await record.store.call('openWrite', device.id)).not.toHaveProperty('proofRefused');
  });
});

test('a key that was proven is told of, and nothing else changes', async () => {
  const { writeId } = await device.accepted('a');
  const before = [device.story(), record.query('SELECT * FROM writes')];
  await record.store.call('recordProven', { writeId });
  expect(newest()).toMatchObject({
    event: 'proven',
    device: device.id,
    run: device.runId,
    generation: 1,
    fingerprint: 'a',
  });
  expect(newest()).not.toHaveProperty('set');
  expect([device.story(), record.query('SELECT * FROM writes')]).toEqual(before);
});
