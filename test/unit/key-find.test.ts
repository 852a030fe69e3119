import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256Hex } from '#src/core/bytes.ts';
import { faultOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

const fp = (text: string): string => sha256Hex(Buffer.from(text));
const find = (prefix: string, limit = 300) => record.store.call('findKeys', { prefix, limit });
const mark = (prefix: string, state: 'compromised' | 'destroyed' = 'compromised', why = 'lost') =>
  record.store.call('markKey', { prefix, state, why, at: record.at });

describe('keys are found by the first digits of their fingerprint', () => {
  test('those of this station and those in backups, each with its device, its state and since when', async () => {
    const old = fp('old');
    const made = fp('made');
    const other = await record.device(2);
    await device.verified(made, old);
    await other.backup(await other.attempt(), old);
    expect(await find(made.slice(0, 12))).toMatchObject({
      found: [
        {
          deviceId: device.id,
          generation: 1,
          backup: null,
          state: 'active',
          reason: 'verified on the device',
          onDevice: true,
        },
      ],
      more: 0,
    });
    expect(await find(old)).toMatchObject({
      found: [
        { deviceId: device.id, generation: null, backup: 1, state: 'found', onDevice: false },
        { deviceId: other.id, generation: null, backup: 2, state: 'found', onDevice: true },
      ],
      more: 0,
    });
  });

  test('a replaced key is deactivated, with the reason, and on its device no more', async () => {
    await device.accepted(fp('a'), { left: true });
    await device.accepted(fp('b'), { left: true });
    const { found } = await find(fp('a'));
    expect(found).toMatchObject([{ state: 'deactivated', reason: 'replaced on the device', onDevice: false }]);
  });

  test('as many as are asked for, and a count of the others', async () => {
    for (let n = 2; n < 12; n += 1) {
      const one = await record.device(n);
      await one.backup(await one.attempt(), fp('shared'));
    }
    const { found, more } = await find(fp('shared'), 4);
    expect([found.length, more]).toEqual([4, 6]);
    expect(await find('0000')).toEqual({ found: [], more: 0 });
  });
});

describe('a mark', () => {
  test('is shown instead of the state, in the history too, and told in the journal for each device', async () => {
    await device.accepted(fp('a'), { left: true });
    const other = await record.device(2);
    await other.backup(await other.attempt(), fp('a'));
    const marked = await mark(fp('a').slice(0, 8), 'compromised', 'laptop stolen');
    expect(marked).toMatchObject({ fingerprint: fp('a'), already: false, devices: [device.id, other.id], more: 0 });
    expect(marked.carriers).toEqual([device.id, other.id]);
    expect((await find(fp('a'))).found.map(({ state, reason }) => [state, reason])).toEqual([
      ['compromised', 'laptop stolen'],
      ['compromised', 'laptop stolen'],
    ]);
    const history = await record.store.call('deviceHistory', device.id);
    expect(history.keys[0]).toMatchObject({
      state: 'compromised',
      changes: [
        { state: 'pre-activation', reason: 'made' },
        { state: 'active', reason: 'verified on the device' },
        { state: 'compromised', reason: 'laptop stolen' },
      ],
    });
    expect(history.marks).toMatchObject([{ fingerprint: fp('a'), state: 'compromised', why: 'laptop stolen' }]);
    const told = { event: 'marked', fingerprint: fp('a'), state: 'compromised', why: 'laptop stolen' };
    expect(history.events.at(-1)).toMatchObject(told);
    expect((await record.store.call('deviceHistory', other.id)).events.at(-1)).toMatchObject(told);
    const events = record.list(`SELECT json_extract(body, '$.event') FROM journal ORDER BY seq DESC LIMIT 3`);
    expect(events).toEqual(['marked', 'marked', 'key-marked']);
  });

  test('that says the same twice is put down once', async () => {
    await device.accepted(fp('a'), { left: true });
    await mark(fp('a'));
    const before = record.list('SELECT max(seq) FROM journal');
    expect(await mark(fp('a'), 'compromised', 'another reason')).toMatchObject({ already: true, why: 'lost' });
    expect(record.list('SELECT count(*) FROM key_marks')).toEqual([1]);
    expect(record.list('SELECT max(seq) FROM journal')).toEqual(before);
  });

  test('destroyed outweighs compromised, whichever came first', async () => {
    await device.accepted(fp('a'), { left: true });
    await device.accepted(fp('b'), { left: true });
    await mark(fp('a'), 'destroyed');
    expect(await mark(fp('a'), 'compromised')).toMatchObject({ already: false, shownAs: 'destroyed' });
    await mark(fp('b'), 'compromised');
    expect(await mark(fp('b'), 'destroyed')).toMatchObject({ shownAs: 'destroyed' });
    const { keys } = await record.store.call('deviceHistory', device.id);
    expect(keys.map(({ state }) => state)).toEqual(['destroyed', 'destroyed']);
  });

  test('is refused for a prefix of several keys, which are named, and for a key that is nowhere', async () => {
    const [one, two] = ['abcd0', 'abcd1'].map(start => start.padEnd(64, '0')) as [string, string];
    await device.accepted(one, { left: true });
    await device.backup(await device.attempt(), two);
    expect(await faultOf(mark('abcd'))).toMatchObject({
      code: 'USAGE',
      message: `abcd fits several keys: ${one}, ${two}`,
    });
    expect(await faultOf(mark('ffff'))).toMatchObject({ code: 'KEY_NOT_FOUND' });
    expect(record.list('SELECT count(*) FROM key_marks')).toEqual([0]);
  });

  test('stays: none can be changed or taken back', async () => {
    await device.accepted(fp('a'), { left: true });
    await mark(fp('a'));
    expect(await record.store.call('checkRecord', undefined)).toEqual([]);
  });
});
