import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import Database from 'better-sqlite3';
import { newIdentity, recipientTextOf } from '#src/vault/x25519.ts';
import { Bench, csvOf, exit, jsonLines } from '../support/cli.ts';

/* `keys prepare`, and runs that use what it has made, as processes. */

const TOKEN = { PARTICLE_ACCESS_TOKEN: 'a-token-of-the-tests' };

let bench: Bench;
beforeEach(() => {
  bench = new Bench();
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
});

const cli = (...args: string[]) => bench.run([...args, '--db', bench.path('fleet.db')], TOKEN);

function rows<Row>(sql: string): Row[] {
  const db = new Database(bench.path('fleet.db'), { readonly: true });
  try {
    return db.prepare<[], Row>(sql).all();
  } finally {
    db.close();
  }
}

const prepared = (): string[] =>
  rows<{ fingerprint: string }>('SELECT fingerprint FROM prepared_keys ORDER BY id').map(row => row.fingerprint);
const used = (): string[] =>
  rows<{ fingerprint: string }>('SELECT fingerprint FROM keys ORDER BY id').map(row => row.fingerprint);
const working = (): boolean => existsSync(bench.path('fleet.working-prepared'));

async function rack(count: number): Promise<{ manifest: string; address: string; ids: readonly string[] }> {
  const served = await bench.serve(['rack', '--count', String(count), '--write-ms', '5', '--listen', '127.0.0.1:0']);
  const manifest = bench.file('rack.csv', csvOf(served.devices));
  return { manifest, address: served.address, ids: served.devices.map(({ deviceId }) => deviceId) };
}

describe('keys prepare', () => {
  test('makes pairs, says how many there are, and the record is whole', async () => {
    const first = await cli('keys', 'prepare', '--count', '2');
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toBe(`2 key pairs made; 2 key pairs prepared in ${bench.path('fleet.db')}\n`);
    const second = await cli('keys', 'prepare', '--count', '1', '--json');
    expect(JSON.parse(second.stdout)).toEqual({ made: 1, prepared: 3 });
    const check = await cli('db', 'check');
    expect(check).toMatchObject({ code: 0, stdout: expect.stringContaining('3 items') as string });
    expect(JSON.parse((await cli('vault', 'status', '--json')).stdout)).toMatchObject({ prepared: 3, keys: 0 });
    expect((await cli('audit', 'verify')).code).toBe(0);
  });

  test('a run uses them, each once, before it makes any', async () => {
    const { manifest, address } = await rack(3);
    await cli('keys', 'prepare', '--count', '2');
    const ran = await cli('run', manifest, '--rack', address, '--offline', '--json');
    expect(jsonLines(ran.stdout).at(-1)).toMatchObject({ pass: 3, cloudPending: 3 });
    expect(used()).toHaveLength(3);
    expect(prepared().every(fingerprint => used().includes(fingerprint))).toBe(true);
    expect(rows('SELECT count(*) AS n FROM prepared_keys WHERE taken_at IS NULL')).toEqual([{ n: 0 }]);
    expect((await cli('db', 'check')).code).toBe(0);
  });

  test.each(['escrow', 'none'])(
    'under %s they are sealed to an identity that goes with the last of them',
    async policy => {
      const recipients = policy === 'none' ? [] : [1, 2].flatMap(() => ['--recipient', recipientTextOf(newIdentity())]);
      expect((await cli('vault', 'init', '--policy', policy, ...recipients)).code).toBe(0);
      const { manifest, address, ids } = await rack(2);
      await cli('keys', 'prepare', '--count', '2');
      expect(working()).toBe(true);
      await cli('run', manifest, '--rack', address, '--offline', '--only', ids[0]!);
      expect(working()).toBe(true);
      await cli('run', manifest, '--rack', address, '--offline');
      expect(used().sort()).toEqual(prepared().sort());
      expect(working()).toBe(false);
      expect((await cli('audit', 'verify')).code).toBe(0);
    },
  );

  test('a run whose pairs can not be opened any more makes others, and says so', async () => {
    expect((await cli('vault', 'init', '--policy', 'none')).code).toBe(0);
    const { manifest, address } = await rack(1);
    await cli('keys', 'prepare', '--count', '1');
    bench.file('fleet.working-prepared', '');
    const ran = await cli('run', manifest, '--rack', address, '--offline');
    expect(ran.stderr).toContain('a prepared key pair can’t be used'.replace('’', "'"));
    expect(ran.code).toBe(4);
    expect(used().some(fingerprint => prepared().includes(fingerprint))).toBe(false);
  });

  test('waits for nobody: a run has the database', async () => {
    const { address } = await rack(1);
    const manifest = bench.file('others.csv', csvOf([{ deviceId: '0'.repeat(23) + '1' }]));
    const watching = bench.start(
      ['run', manifest, '--rack', address, '--offline', '--watch', '--db', bench.path('fleet.db'), '--json'],
      TOKEN,
    );
    await new Promise<void>(resolve => watching.stdout?.once('data', () => resolve()));
    expect(await cli('keys', 'prepare', '--count', '1')).toMatchObject({ code: 5 });
    watching.kill('SIGINT');
    expect(await exit(watching)).toBe(130);
  });

  test('a run that watches and has nothing to do makes a pair for each row that is open', async () => {
    const { address } = await rack(1);
    const absent = [1, 2, 3].map(n => ({ deviceId: String(n).padStart(24, '0') }));
    const manifest = bench.file('others.csv', csvOf(absent));
    const db = bench.path('fleet.db');
    const watching = bench.start(
      ['run', manifest, '--rack', address, '--offline', '--watch', '--db', db, '--json'],
      TOKEN,
    );
    await new Promise<void>(resolve => watching.stdout?.once('data', () => resolve()));
    await expect.poll(prepared, { timeout: 240_000 }).toHaveLength(absent.length);
    watching.kill('SIGINT');
    expect(await exit(watching)).toBe(130);
    expect(prepared()).toHaveLength(absent.length);
  });

  test.each([
    ['no count', []],
    ['a count of nothing', ['--count', '0']],
    ['half a count', ['--count', '1.5']],
    ['more than anybody needs', ['--count', '10001']],
    ['a fingerprint', ['abcdef', '--count', '1']],
    ['a reason', ['--count', '1', '--why', 'because']],
  ])('with %s ends with 2, one clear line, a hint, and nothing touched', async (_, args) => {
    const ended = await cli('keys', 'prepare', ...args);
    const lines = ended.stderr.trim().split('\n');
    expect(ended.code).toBe(2);
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^error: keys prepare takes .*\[USAGE\]$/);
    expect(lines[1]).toMatch(/^hint: .*keys prepare --count 120/);
    expect(existsSync(bench.path('fleet.db'))).toBe(false);
  });
});
