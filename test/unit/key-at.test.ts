import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseMoment } from '#src/cli/moment.ts';
import type { KeyAt } from '#src/store/ops/key-at.ts';
import { faultOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

const keyAt = (time: number): Promise<KeyAt> => record.store.call('keyAt', { deviceId: device.id, time });

/** What was there, how that is known, and what told it. */
async function answer(time: number): Promise<(string | number | null)[]> {
  const { certainty, since, lastSeen } = await keyAt(time);
  return [certainty, lastSeen?.fingerprint ?? null, since?.source ?? null, since?.generation ?? null];
}

describe('which key was on a device at a moment', () => {
  test('nobody knows before somebody looked', async () => {
    const before = record.at;
    await device.verified('mine', 'theirs');
    expect(await keyAt(before)).toMatchObject({
      certainty: 'unknown',
      since: null,
      lastSeen: null,
      next: { source: 'backup', fingerprint: 'theirs' },
    });
  });

  test('what a backup showed is proven until this station wrote over it', async () => {
    const attempt = await device.attempt();
    await device.backup(attempt, 'theirs');
    const between = record.at;
    await device.verified('mine', 'theirs');
    const after = record.at;
    expect(await answer(between)).toEqual(['proven', 'theirs', 'backup', null]);
    expect((await keyAt(between)).until).toMatchObject({ source: 'verified', fingerprint: 'mine' });
    expect(await answer(after)).toEqual(['inferred', 'mine', 'verified', 1]);
  });

  test('one that a later backup shows again is proven, and told from the write on', async () => {
    await device.accepted('mine', { left: true });
    const between = record.at;
    await device.backup(await device.attempt(), 'mine');
    const after = record.at;
    await device.backup(await device.attempt(), 'mine');
    expect(await answer(between)).toEqual(['proven', 'mine', 'verified', 1]);
    expect(await answer(after)).toEqual(['proven', 'mine', 'verified', 1]);
  });

  test('when somebody else wrote is not known, and said', async () => {
    await device.accepted('mine', { left: true });
    const between = record.at;
    await device.backup(await device.attempt(), 'theirs');
    const after = record.at;
    const found = await keyAt(between);
    expect(found).toMatchObject({ certainty: 'inferred', next: { source: 'backup', fingerprint: 'theirs' } });
    expect(found.until).toEqual(found.next);
    expect(await answer(after)).toEqual(['inferred', 'theirs', 'backup', null]);
  });

  test('after a roll-back it is what was there before, ours or not', async () => {
    const refused = await device.refused('second', 'theirs');
    const meanwhile = record.at;
    const { writeId } = refused;
    const rolled = { writeId, at: record.at, oldFingerprint: 'theirs', resend: null };
    await record.store.call('markRolledBack', rolled);
    const after = record.at;
    expect(await answer(meanwhile)).toEqual(['proven', 'second', 'verified', 1]);
    expect(await answer(after)).toEqual(['inferred', 'theirs', 'rolled-back', null]);
  });

  test('a write that was never proven leaves it in doubt', async () => {
    await device.accepted('mine', { left: true });
    await device.writing('next', 'mine');
    expect(await keyAt(record.at)).toMatchObject({
      certainty: 'inferred',
      lastSeen: { fingerprint: 'mine' },
      unproven: { fingerprint: 'next' },
    });
  });

  test('a device without a key that can be read has a classification', async () => {
    await device.backup(await device.attempt(), null);
    expect(await keyAt(record.at)).toMatchObject({ lastSeen: { fingerprint: null, classification: 'blank' } });
  });

  test('who put it there stands in the journal, with its run; a mark is told', async () => {
    await device.accepted('feed'.padEnd(64, '0'), { left: true });
    const { since, by } = await keyAt(record.at);
    expect([since?.run, by?.run, by?.operator]).toEqual([device.runId, device.runId, expect.any(String)]);
    const event = record.list(`SELECT json_extract(body, '$.event') FROM journal WHERE seq = ?`, by?.seq);
    expect(event).toEqual(['written']);
    await record.store.call('markKey', { prefix: 'feed', state: 'compromised', why: 'lost', at: record.at });
    expect((await keyAt(record.at)).mark).toMatchObject({ state: 'compromised', why: 'lost' });
  });

  test('a device that is not on record is no answer', async () => {
    const stranger = (await record.device(9)).id;
    const asked = record.store.call('keyAt', { deviceId: stranger, time: 1 });
    expect((await faultOf(asked)).code).toBe('DEVICE_NOT_FOUND');
  });
});

describe('a moment', () => {
  const read = (text: string): string => new Date(parseMoment(text).at).toISOString();

  test.each([
    ['2026-05-03', '2026-05-03T23:59:59.999Z'],
    ['2024-02-29', '2024-02-29T23:59:59.999Z'],
    ['0001-01-01', '0001-01-01T23:59:59.999Z'],
    ['2026-05-03T09:00:00Z', '2026-05-03T09:00:00.000Z'],
    ['2026-05-03t09:00z', '2026-05-03T09:00:00.000Z'],
    [' 2026-05-03 11:00:00.5+02:00 ', '2026-05-03T09:00:00.500Z'],
    ['2026-05-03T00:30:00-01:30', '2026-05-03T02:00:00.000Z'],
    ['2026-05-03T09:00:00.123999Z', '2026-05-03T09:00:00.123Z'],
  ])('%s is %s', (text, iso) => {
    expect(read(text)).toBe(iso);
  });

  test('a date says how it was read', () => {
    expect(parseMoment('2026-05-03').readAs).toBe('the end of 2026-05-03, UTC');
    expect(parseMoment('2026-05-03T09:00:00Z').readAs).toBeNull();
  });

  test.each([
    '',
    'yesterday',
    '2026-02-30',
    '2026-13-01',
    '2026-00-10',
    '2026-05-00',
    '2026-5-3',
    '2026-05-03T09:00:00',
    '2026-05-03T25:00:00Z',
    '2026-05-03T09:60:00Z',
    '2026-05-03T09:00:61Z',
    '2026-05-03T09:00:00+25:00',
    '1777777777',
    '2026-05-03T09:00:00Z; DROP',
  ])('%j is none', text => {
    expect(() => parseMoment(text)).toThrow(expect.objectContaining({ code: 'USAGE' }) as Error);
  });
});
