import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { FAIL_VARIABLE } from '#src/core/fail-points.ts';
import { Bench, csvOf, jsonLines, type Ended } from '../support/cli.ts';

const A = '0123456789abcdef01234567';
const B = '1123456789abcdef01234567';
const RUN = ['run', 'rack.csv', '--sim', '2', '--wait', '0'];

/** A station that has keyed two devices. */
async function keyed(bench: Bench): Promise<{ keyOf: (id: string) => Promise<string> }> {
  bench.file('rack.csv', `device_id\n${A}\n${B}\n`);
  const ended = await bench.run([...RUN, '--operator', 'anna']);
  expect([ended.code, ended.stderr]).toEqual([0, expect.any(String)]);
  return { keyOf: async id => (await keysOf(bench, id)).at(-1)?.fingerprint ?? '' };
}

interface Key {
  readonly fingerprint: string;
  readonly state: string;
}

async function keysOf(bench: Bench, id: string): Promise<Key[]> {
  return (JSON.parse((await bench.run(['history', id, '--json'])).stdout) as { keys: Key[] }).keys;
}

function json(ended: Ended): Record<string, unknown> {
  expect([ended.code, ended.stderr]).toEqual([0, '']);
  return JSON.parse(ended.stdout) as Record<string, unknown>;
}

describe('keys find', () => {
  test('finds a key by its first digits, in either case, and says what is not there', async () => {
    await using bench = new Bench();
    const { keyOf } = await keyed(bench);
    const fingerprint = await keyOf(A);
    const found = json(await bench.run(['keys', 'find', fingerprint.slice(0, 12).toUpperCase(), '--json']));
    expect(found).toMatchObject({
      prefix: fingerprint.slice(0, 12),
      keys: [{ fingerprint, deviceId: A, generation: 1, backup: null, state: 'active', onDevice: true }],
      more: 0,
    });
    const shown = await bench.run(['keys', 'find', fingerprint]);
    expect([shown.code, shown.stdout]).toEqual([
      0,
      expect.stringContaining(`${A}  key 1  ${fingerprint.slice(0, 16)}`),
    ]);
    const none = await bench.run(['keys', 'find', '0'.repeat(64)]);
    expect([none.code, none.stdout]).toEqual([2, '']);
    expect(none.stderr).toContain('[KEY_NOT_FOUND]');
  });
});

describe('keys at', () => {
  test('says which key was there, since when, who put it there, and how that is known', async () => {
    await using bench = new Bench();
    const { keyOf } = await keyed(bench);
    const fingerprint = await keyOf(A);
    const found = json(await bench.run(['keys', 'at', A, '--time', '2999-01-01', '--json']));
    expect(found).toMatchObject({
      deviceId: A,
      time: '2999-01-01T23:59:59.999Z',
      readAs: 'the end of 2999-01-01, UTC',
      certainty: 'inferred',
      fingerprint,
      generation: 1,
      source: 'verified',
      run: 1,
      operator: 'anna',
    });
    const shown = await bench.run(['keys', 'at', A, '--time', '2999-01-01']);
    expect(shown.stdout.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')).toBe(
      [
        `device ${A} at TIME (the end of 2999-01-01, UTC), which is yet to come`,
        `key 1, fingerprint ${fingerprint}`,
        'since    TIME: verified on the device (run 1, by anna)',
        'known    inferred: seen there at TIME, and not looked at since',
        '',
      ].join('\n'),
    );
    const early = await bench.run(['keys', 'at', A, '--time', '2001-05-03T09:00:00Z']);
    expect([early.code, early.stdout]).toEqual([0, expect.stringContaining('unknown: nobody had looked by then')]);
  });
});

describe('keys mark, and run --only-compromised', () => {
  test('a marked key is shown as such, its device alone gets a new one, and the other stays as it is', async () => {
    await using bench = new Bench();
    const { keyOf } = await keyed(bench);
    const [of, ofB] = [await keyOf(A), await keyOf(B)];
    const none = await bench.run([...RUN, '--only-compromised']);
    expect([none.code, none.stderr]).toEqual([
      0,
      'no device in the manifest carries a key that is marked compromised: nothing to do\n',
    ]);
    const marked = await bench.run(['keys', 'mark', of.slice(0, 12), 'compromised', '--why', 'laptop stolen']);
    expect([marked.code, marked.stdout]).toEqual([
      0,
      `key ${of} is marked compromised: laptop stolen\non record for 1 device, on 1 device now:\n  ${A}\n`,
    ]);
    const weak = await bench.run(['audit', 'weak', '--json']);
    expect([weak.code, JSON.parse(weak.stdout)]).toMatchObject([
      3,
      { devices: [{ deviceId: A, reasons: ['compromised'], fingerprint: of }] },
    ]);
    const again = json(await bench.run(['keys', 'mark', of, 'compromised', '--why', 'twice', '--json']));
    expect(again).toMatchObject({ fingerprint: of, already: true, why: 'laptop stolen', carriers: [A] });
    const plan = await bench.run([...RUN, '--only-compromised', '--plan', '--json']);
    expect((JSON.parse(plan.stdout) as { rows: unknown[] }).rows).toMatchObject([{ deviceId: A, action: 'work' }]);
    const run = await bench.run([...RUN, '--only-compromised', '--json']);
    expect(run.code).toBe(0);
    expect(
      run.stdout
        .trim()
        .split('\n')
        .map(line => JSON.parse(line) as unknown),
    ).toMatchObject([
      { type: 'run-started', rows: 1 },
      { type: 'device', deviceId: A, outcome: 'pass' },
      { type: 'summary', pass: 1, exitCode: 0 },
    ]);
    expect((await keysOf(bench, A)).map(({ state }) => state)).toEqual(['compromised', 'active']);
    expect(await keyOf(B)).toBe(ofB);
    expect(await bench.run(['audit', 'weak'])).toMatchObject({
      code: 0,
      stdout: 'no device on record has a weak key\n',
    });
    expect((await bench.run([...RUN, '--only-compromised'])).stderr).toContain('nothing to do');
  });

  test('one that died on the way is finished by the next, without a second new key', async () => {
    await using bench = new Bench();
    const rack = await bench.serve(['rack', '--listen', '127.0.0.1:0', '--count', '3', '--write-ms', '5']);
    const ids = rack.devices.map(({ deviceId }) => deviceId);
    bench.file('rack.csv', csvOf(rack.devices));
    const run = (more: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> =>
      bench.run(['run', 'rack.csv', '--rack', rack.address, '--wait', '0', '--offline', ...more], env);
    expect(await run(['--job', 'backup'])).toMatchObject({ code: 0 });
    // Keys that nobody here made: found in backups, and marked by their fingerprints.
    for (const id of ids) {
      const { fingerprint } = json(await bench.run(['keys', 'at', id, '--time', '2999-01-01', '--json']));
      const marked = await bench.run(['keys', 'mark', String(fingerprint), 'compromised', '--why', 'leaked']);
      expect([marked.code, marked.stdout]).toEqual([0, expect.stringContaining('on 1 device now')]);
    }
    const cuts = ['record:markVerified:committed', 'record:markLeft:committed'];
    for (const [n, point] of cuts.entries()) {
      const cut = await run(['--only-compromised', '--only', ids[n] ?? ''], { [FAIL_VARIABLE]: point });
      expect([cut.code, cut.stdout]).toEqual([null, '']);
    }
    const ended = await run(['--only-compromised', '--json']);
    expect(jsonLines(ended.stdout).at(-1)).toMatchObject({ rows: 3, pass: 3, exitCode: 4 });
    for (const id of ids) expect((await keysOf(bench, id)).map(({ state }) => state)).toEqual(['active']);
    expect((await run(['--only-compromised'])).stderr).toContain('nothing to do');
  });
});

describe('what a user can get wrong with keys ends with 2, one clear line, a hint, and nothing touched', () => {
  test.each([
    ['a prefix too short', ['keys', 'find', 'abc']],
    ['a fingerprint that is none', ['keys', 'find', 'xyz-not-hex']],
    ['a fingerprint too long', ['keys', 'find', 'a'.repeat(65)]],
    ['an unknown action', ['keys', 'fly', 'abcd']],
    ['no action', ['keys']],
    ['find with a time', ['keys', 'find', 'abcd', '--time', '2026-05-03']],
    ['find with a state', ['keys', 'find', 'abcd', 'compromised']],
    ['a device that is none', ['keys', 'at', 'abcd', '--time', '2026-05-03']],
    ['no time', ['keys', 'at', A]],
    ['a day that no month has', ['keys', 'at', A, '--time', '2026-02-30']],
    ['a time without its zone', ['keys', 'at', A, '--time', '2026-05-03T09:00:00']],
    ['a mark without a state', ['keys', 'mark', 'abcd', '--why', 'x']],
    ['a mark of another kind', ['keys', 'mark', 'abcd', 'lost', '--why', 'x']],
    ['a mark without a reason', ['keys', 'mark', 'abcd', 'compromised']],
    ['a mark with an empty reason', ['keys', 'mark', 'abcd', 'compromised', '--why', '  ']],
    ['no database', ['keys', 'find', 'abcd']],
    ['only compromised, and again', [...RUN, '--only-compromised', '--again']],
    ['only compromised, and failed ones', [...RUN, '--only-compromised', '--retry-failed']],
    ['only compromised, by a job without a new key', [...RUN, '--only-compromised', '--job', 'backup']],
  ])('%s', async (_, args) => {
    await using bench = new Bench();
    bench.file('rack.csv', `device_id\n${A}\n`);
    const ended = await bench.run(args);
    expect([ended.code, ended.stdout]).toEqual([2, '']);
    const lines = ended.stderr.trimEnd().split('\n');
    expect(lines.filter(line => line.startsWith('error: '))).toHaveLength(1);
    expect(lines.at(-1)).toMatch(/^hint: /);
    expect(ended.stderr.replaceAll(bench.folder, 'FOLDER')).toMatchSnapshot();
    expect(existsSync(bench.path('photon-fleet.db'))).toBe(false);
  });
});
