import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { BIG_RECORD_DEVICES, makeBigRecord, newKeyOf } from '../support/big-record.ts';
import { Bench } from '../support/cli.ts';
import { deviceIdOf } from '../support/record-bench.ts';

/** The most that an answer may cost over the start of the program, in seconds of the processor. */
const MOST_SECONDS = 0.3;
/** What `--help` costs on a machine for which the limit is meant. */
const USUAL_START_SECONDS = 0.2;
const TRIES = 5;

/** Seconds of the processor, of the quickest of some tries: a busy machine makes every one slower, never quicker. */
function costOf(bench: Bench, argLists: readonly (readonly string[])[]): number[] {
  const costs = argLists.map((): number[] => []);
  for (let n = 0; n < TRIES; n += 1) {
    for (const [index, args] of argLists.entries()) costs[index]?.push(measure(bench, args));
  }
  return costs.map(list => Math.min(...list));
}

const CLI = new URL('../../dist/cli.js', import.meta.url).pathname;

/** The command in a process of its own, which says at its end what it has used. */
function measure(bench: Bench, args: readonly string[]): number {
  const probe = bench.file(
    'probe.mjs',
    `import { isMainThread } from 'node:worker_threads';
     if (isMainThread) process.on('exit', () => {
       const { userCPUTime, systemCPUTime } = process.resourceUsage();
       process.stderr.write('\\nused ' + (userCPUTime + systemCPUTime) / 1e6);
     });`,
  );
  const env = { PATH: process.env['PATH'], HOME: bench.folder, NO_COLOR: '1', XDG_RUNTIME_DIR: bench.folder };
  const ended = spawnSync(process.execPath, ['--import', probe, CLI, ...args], {
    cwd: bench.folder,
    env,
    encoding: 'utf8',
  });
  expect([ended.status, ended.stderr]).toEqual([0, expect.stringMatching(/^\nused [\d.]+$/)]);
  return Number(/used ([\d.]+)$/.exec(ended.stderr)?.[1]);
}

describe('a record of a large fleet', () => {
  test('answers `history` and `keys find` as fast as one of a single device', { timeout: 1_200_000 }, async () => {
    await using bench = new Bench();
    const { events } = makeBigRecord(bench.path('big.db'), BIG_RECORD_DEVICES);
    makeBigRecord(bench.path('small.db'), 1);
    expect(events).toBeGreaterThanOrEqual(BIG_RECORD_DEVICES * 10);
    const n = Math.ceil(BIG_RECORD_DEVICES * 0.77);
    const [start, history, find, smallHistory, smallFind] = costOf(bench, [
      ['--help'],
      ['history', deviceIdOf(n), '--db', 'big.db'],
      ['keys', 'find', newKeyOf(n).slice(0, 12), '--db', 'big.db'],
      ['history', deviceIdOf(1), '--db', 'small.db'],
      ['keys', 'find', newKeyOf(1).slice(0, 12), '--db', 'small.db'],
    ]) as [number, number, number, number, number];
    const over = { history: history - smallHistory, find: find - smallFind };
    // Twice as much where the machine has other work, and more on a slow one: what it costs to read is held against the
    // same command.
    const slowness = Math.max(1, start / USUAL_START_SECONDS);
    const costs = { history: history - start, find: find - start, over };
    expect(costs.history, JSON.stringify(costs)).toBeLessThan(2 * MOST_SECONDS * slowness);
    expect(costs.find, JSON.stringify(costs)).toBeLessThan(2 * MOST_SECONDS * slowness);
    expect(over.history, JSON.stringify(costs)).toBeLessThan((MOST_SECONDS / 2) * slowness);
    expect(over.find, JSON.stringify(costs)).toBeLessThan((MOST_SECONDS / 2) * slowness);
  });
});

describe('history', () => {
  test('tells the life of a device as a timeline, and as JSON', async () => {
    await using bench = new Bench();
    const id = '0123456789abcdef01234567';
    bench.file('rack.csv', `device_id\n${id}\n`);
    const run = await bench.run(['run', 'rack.csv', '--sim', '1', '--wait', '0', '--operator', 'anna']);
    expect([run.code, run.stderr]).toEqual([0, expect.any(String)]);
    const { code, stdout } = await bench.run(['history', id]);
    expect(code).toBe(0);
    const lines = stdout.slice(stdout.indexOf('\ntimeline\n')).trimEnd().split('\n').slice(3);
    expect(
      lines.map(line =>
        line
          .replace(/^\S+Z {2}/, '')
          .replace(/[0-9a-f]{16}/, 'KEY')
          .replace(/ +/g, ' '),
      ),
    ).toEqual([
      'seen 1 anna -',
      'backup 1 taken 1 anna KEY readable',
      'key 1 made 1 anna KEY',
      'write begun 1 anna KEY',
      'key 1 written 1 anna KEY',
      'key 1 verified 1 anna KEY',
      'key 1 sent - anna KEY',
      'accepted by the cloud 1 anna KEY status 200',
      'left DFU mode 1 anna KEY',
      'settled: pass 1 anna -',
    ]);
    const history = JSON.parse((await bench.run(['history', id, '--json'])).stdout) as {
      keys: { changes: { state: string; at: string }[] }[];
      events: Record<string, unknown>[];
    };
    expect(history.keys[0]?.changes.map(({ state }) => state)).toEqual(['pre-activation', 'active']);
    expect(history.events).toHaveLength(10);
    expect(history.events[1]).toMatchObject({ event: 'backup-taken', operator: 'anna', run: 1, backup: 1 });
    expect(JSON.stringify(history.events)).not.toContain('"set"');
    expect(JSON.stringify(history)).toContain('"marks":[]');
  });
});
