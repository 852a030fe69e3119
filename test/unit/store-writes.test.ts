import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OPEN_PHASES } from '#src/core/ledger.ts';
import { ledgerOf } from '#src/store/ledger.ts';
import type { Store } from '#src/store/store.ts';
import { faultOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

describe('a write that goes well', () => {
  test('is prepared, writing, verified, accepted and left, and its key and send go with it', async () => {
    const { store } = record;
    const { writeId, sendId } = await device.prepared('a');
    expect(device.story()).toEqual(['key 1 a: pre-activation, send held', 'writes: prepared']);
    expect(await store.call('markWriting', { writeId, at: record.at })).toBe(true);
    expect(device.story()).toEqual(['key 1 a: pre-activation, send held', 'writes: writing']);
    await store.call('markVerified', { writeId, at: record.at });
    expect(device.story()).toEqual(['key 1 a: active, send pending', 'writes: verified']);
    await device.lease(sendId);
    await store.call('recordAccepted', { owner: 'run:1', sendId, status: 200, at: record.at });
    expect(device.story()).toEqual(['key 1 a: active, send accepted', 'writes: accepted']);
    await store.call('markLeft', { writeId, at: record.at });
    expect(device.story()).toEqual(['key 1 a: active, send accepted', 'writes: left']);
    expect(await store.call('openWrite', device.id)).toBeNull();
  });

  test('is there again for a session that resumes, with all that it needs', async () => {
    await using threaded = await RecordBench.openInThread();
    const of = await threaded.device();
    const { writeId, sendId } = await of.prepared('a', 'old');
    const ledger = ledgerOf(threaded.store as Store);
    expect(await ledger.openWrite(of.id)).toEqual({
      writeId,
      phase: 'prepared',
      alternate: 1,
      offset: 34,
      length: 1600,
      oldSha256: 'o',
      newSha256: 'n',
      doubt: 'none',
      restores: null,
      backup: {
        backupId: 1,
        sha256: 'b'.repeat(64),
        bytes: 8391,
        classification: 'readable',
        fingerprint: 'old',
        takenAt: expect.any(Number) as number,
        sealed: Uint8Array.of(1, 2, 3),
      },
      key: {
        keyId: 1,
        generation: 1,
        fingerprint: 'a',
        publicPem: 'pem of a',
        sealedPrivate: Uint8Array.of(9),
        sendId,
      },
    });
  });

  test('is left to the outbox where the cloud gave no clear answer', async () => {
    const { sendId } = await device.leftToOutbox('a');
    expect(device.story()).toEqual(['key 1 a: active, send pending', 'writes: left']);
    await device.lease(sendId);
    await record.store.call('recordAccepted', { owner: 'run:1', sendId, status: 200, at: record.at });
    expect(device.story()).toEqual(['key 1 a: active, send accepted', 'writes: left']);
  });

  test('may have no key, and nothing to send', async () => {
    const { writeId } = await device.verified(null);
    expect((await record.store.call('openWrite', device.id))?.key).toBeNull();
    await record.store.call('markLeft', { writeId, at: record.at });
    expect(device.story()).toEqual(['writes: left']);
  });

  test('leaves the key of an earlier one alone, where it has none itself', async () => {
    await device.leftToOutbox('a');
    const { writeId } = await device.verified(null);
    await record.store.call('markLeft', { writeId, at: record.at });
    expect(device.story()).toEqual(['key 1 a: active, send pending', 'writes: left, left']);
  });
});

describe('a second key for a device', () => {
  test('is the next generation, and takes the place of the first at the moment it is verified', async () => {
    await device.leftToOutbox('a');
    const { writeId } = await device.writing('b');
    expect(device.story()).toEqual([
      'key 1 a: active, send pending',
      'key 2 b: pre-activation, send held',
      'writes: left, writing',
    ]);
    await record.store.call('markVerified', { writeId, at: record.at });
    expect(device.story()).toEqual([
      'key 1 a: deactivated, send superseded',
      'key 2 b: active, send pending',
      'writes: left, verified',
    ]);
  });

  test.each(['accepted', 'dropped'] as const)('leaves a send of the first that was %s as it is', async state => {
    if (state === 'accepted') await device.accepted('a', { left: true });
    else {
      await device.leftToOutbox('a');
      await record.store.call('dropSend', { deviceId: device.id, why: 'sold', at: record.at });
    }
    await device.verified('b');
    expect(device.story()[0]).toBe(`key 1 a: deactivated, send ${state}`);
  });

  test('supersedes a send that was refused after the device had left', async () => {
    const { sendId } = await device.leftToOutbox('a');
    await device.lease(sendId);
    await device.refuse(sendId);
    expect(device.story()).toEqual(['key 1 a: active, send refused', 'writes: left']);
    await device.verified('b');
    expect(device.story()[0]).toBe('key 1 a: deactivated, send superseded');
  });

  test('is not prepared while a write is open, and then nothing of it is on record', async () => {
    await device.prepared('a');
    expect((await faultOf(device.prepared('b'))).message).toContain('UNIQUE constraint failed: writes.device_id');
    expect(device.story()).toEqual(['key 1 a: pre-activation, send held', 'writes: prepared']);
  });

  test('of another device is none of its business', async () => {
    const other = await record.device(2);
    await device.leftToOutbox('a');
    await other.verified('b');
    expect(device.story()).toEqual(['key 1 a: active, send pending', 'writes: left']);
    expect(other.story()).toEqual(['key 1 b: active, send pending', 'writes: verified']);
  });
});

test('whatever is done to a device, it has one active key and one pending send at most', async () => {
  const { store } = record;
  for (const round of [1, 2, 3, 4, 5, 6, 7, 8]) {
    const { writeId, sendId } = await device.verified(`k${round}`, round > 1 ? `k${round - 1}` : null);
    if (round % 4 === 0) await store.call('abandonWrite', { writeId, at: record.at, oldFingerprint: `k${round - 1}` });
    else if (round % 2 === 0) {
      await device.lease(sendId);
      await device.refuse(sendId);
      await store.call('markRollingBack', { writeId, at: record.at });
      const back = { writeId, at: record.at, oldFingerprint: `k${round - 1}`, resend: null };
      await store.call('markRolledBack', back);
    } else await store.call('markLeft', { writeId, at: record.at });
    expect(record.list(`SELECT count(*) FROM sends WHERE state = 'pending'`)).toEqual([1]);
    expect(record.list(`SELECT count(*) FROM keys WHERE state = 'active'`)).toEqual([1]);
    expect(await store.call('checkRecord', undefined)).toEqual([]);
  }
});

describe('the phases of a write', () => {
  const MOVES = ['markWriting', 'markVerified', 'markLeftToOutbox', 'markLeft', 'markRollingBack'] as const;
  const ALLOWED: Readonly<Record<(typeof MOVES)[number], readonly string[]>> = {
    markWriting: ['prepared', 'writing'],
    markVerified: ['prepared', 'writing', 'verified', 'unknown'],
    markLeftToOutbox: ['verified', 'unknown'],
    markLeft: ['verified', 'unknown', 'accepted', 'refused'],
    markRollingBack: ['refused', 'rolling-back'],
  };

  async function bringTo(phase: string, of: RecordedDevice): Promise<number> {
    const { store } = record;
    if (phase === 'prepared') return (await of.prepared()).writeId;
    if (phase === 'writing') return (await of.writing()).writeId;
    if (phase === 'verified') return (await of.verified()).writeId;
    if (phase === 'accepted') return (await of.accepted()).writeId;
    if (phase === 'left') return (await of.accepted('new', { left: true })).writeId;
    const { writeId } = await (phase === 'unknown' || phase === 'abandoned' ? of.verified() : of.refused());
    const at = record.at;
    if (phase === 'unknown') await store.call('markLeftToOutbox', { writeId, at });
    if (phase === 'abandoned') await store.call('abandonWrite', { writeId, at, oldFingerprint: null });
    if (phase.startsWith('roll')) await store.call('markRollingBack', { writeId, at });
    if (phase === 'rolled-back')
      await store.call('markRolledBack', { writeId, at, oldFingerprint: null, resend: null });
    return writeId;
  }

  test('are left only by the ways that there are; every other one is refused and changes nothing', async () => {
    let n = 10;
    for (const phase of [...OPEN_PHASES, 'left', 'rolled-back', 'abandoned']) {
      for (const move of MOVES) {
        const of = await record.device((n += 1));
        const writeId = await bringTo(phase, of);
        const before = of.story();
        const settled = move === 'markLeftToOutbox' && (phase === 'accepted' || phase === 'refused');
        const moving = record.store.call(move, { writeId, at: record.at });
        if (ALLOWED[move].includes(phase)) await moving;
        else {
          if (settled) expect(await moving).toBe(phase);
          else expect((await faultOf(moving)).message).toContain('touched 0 rows instead of 1');
          expect(of.story()).toEqual(before);
        }
      }
    }
    expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  });
});
