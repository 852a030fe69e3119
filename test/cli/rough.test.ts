import { describe, expect, test, vi } from 'vitest';
import { Bench, closed, csvOf, exit, jsonLines, type Served } from '../support/cli.ts';

/** A rough place: hands that interrupt, devices that fail again and again, a copy of the record in the middle of it all. */

const ENV = { PARTICLE_ACCESS_TOKEN: 'token-of-the-tests' };

async function standing(
  flags: readonly string[],
  more: readonly string[] = [],
): Promise<{ bench: Bench; rack: Served } & AsyncDisposable> {
  const bench = new Bench();
  const rack = await bench.serve(['rack', '--listen', '127.0.0.1:0', ...flags, ...more]);
  bench.file('rack.csv', csvOf(rack.devices));
  return { bench, rack, [Symbol.asyncDispose]: () => bench[Symbol.asyncDispose]() };
}

const runArgs = (rack: Served, ...more: string[]): string[] => [
  ...['run', 'rack.csv', '--rack', rack.address, '--wait', '5', '--offline', '--json'],
  ...more,
];

describe.concurrent('stop rules', () => {
  test('--max-fail as a part of the rows: no more are begun, and the exit code stays true', async () => {
    const faults = ['1', '2', '3'].flatMap(n => ['--fault', `#${n}:write-stall`]);
    await using at = await standing(['--count', '10', '--hubs', '1', '--write-ms', '5', ...faults]);
    const { bench, rack } = at;
    const { code, stdout, stderr } = await bench.run(runArgs(rack, '--max-fail', '20%', '--concurrency', '1'));
    const rows = jsonLines(stdout).filter(({ type }) => type === 'device');
    expect(code).toBe(3);
    expect(rows).toHaveLength(10);
    expect(rows.filter(row => row['code'] === 'WRITE_FAILED')).toHaveLength(3);
    const stopped = rows.filter(row => row['code'] === 'STOPPED');
    expect(stopped.length).toBeGreaterThan(0);
    expect(stopped.every(row => row['outcome'] === 'aborted')).toBe(true);
    expect(stderr).toBe('');
  });

  test('Ctrl-C: what is being written comes to its end, what was not begun is aborted, 130', async () => {
    await using at = await standing(['--count', '3', '--hubs', '1', '--write-ms', '1500']);
    const { bench, rack } = at;
    const child = bench.start(runArgs(rack, '--concurrency', '1', '--verbose', '--log', 'events.log'), ENV);
    const said: string[] = [];
    child.stdout?.on('data', (piece: Buffer) => said.push(piece.toString()));
    await vi.waitUntil(() => said.join('').includes('run-started'), { timeout: 240_000 });
    await vi.waitUntil(async () => (await writing(bench)) > 0, { timeout: 240_000 });
    child.kill('SIGINT');
    expect(await closed(child)).toBe(130);
    const rows = jsonLines(said.join('')).filter(({ type }) => type === 'device');
    expect(rows.map(row => [row['outcome'], row['code']]).sort()).toEqual([
      ['aborted', 'INTERRUPTED'],
      ['aborted', 'INTERRUPTED'],
      ['pass', null],
    ]);
    expect((await bench.run(['db', 'check'])).code).toBe(0);
    expect((await bench.run(runArgs(rack))).code).toBe(4);
  });

  test('a second Ctrl-C cuts at once; the next run finishes what was being written, with the first key', async () => {
    await using at = await standing(['--count', '2', '--hubs', '1', '--write-ms', '4000']);
    const { bench, rack } = at;
    const child = bench.start(runArgs(rack), ENV);
    await vi.waitUntil(async () => (await writing(bench)) > 0, { timeout: 240_000 });
    let talk = '';
    child.stderr?.on('data', (piece: Buffer) => (talk += piece.toString()));
    child.kill('SIGINT');
    await vi.waitUntil(() => talk.includes('stopping'), { timeout: 240_000 });
    child.kill('SIGINT');
    expect(await exit(child)).toBe(130);
    expect((await bench.run(['db', 'check'])).code).toBe(0);
    const again = await bench.run(runArgs(rack));
    expect(jsonLines(again.stdout).at(-1)).toMatchObject({ type: 'summary', pass: 2, exitCode: 4 });
    for (const { deviceId } of rack.devices) {
      const { stdout } = await bench.run(['history', deviceId, '--json']);
      expect((JSON.parse(stdout) as { keys: unknown[] }).keys).toHaveLength(1);
    }
  });
});

/** Writes on their way, by the record. */
async function writing(bench: Bench): Promise<number> {
  const { default: Database } = await import('better-sqlite3');
  try {
    const db = new Database(bench.path('photon-fleet.db'), { readonly: true });
    try {
      return db.prepare<[], number>(`SELECT count(*) FROM writes WHERE phase = 'writing'`).pluck().get() ?? 0;
    } finally {
      db.close();
    }
  } catch {
    return 0; // not there yet
  }
}

describe.concurrent('a device that fails again and again', () => {
  test('is in quarantine after three attempts, says why, and takes part again once it is released', async () => {
    const state = ['--count', '2', '--hubs', '1', '--write-ms', '5', '--state', 'rack'];
    await using at = await standing(state, ['--fault', '#1:write-stall']);
    const { bench, rack: bad } = at;
    const [struck, other] = bad.devices.map(({ deviceId }) => deviceId);
    for (const more of [[], ['--retry-failed'], ['--retry-failed']]) {
      expect((await bench.run(runArgs(bad, ...more))).code).toBe(3);
    }
    const row = async (
      ...more: string[]
    ): Promise<{ code: number | null; row: Record<string, unknown> | undefined }> => {
      const { code, stdout } = await bench.run(runArgs(bad, ...more));
      return { code, row: jsonLines(stdout).find(({ type, deviceId }) => type === 'device' && deviceId === struck) };
    };
    const quarantined = await row('--retry-failed');
    expect(quarantined.code).toBe(3);
    expect(quarantined.row).toMatchObject({ outcome: 'skipped', code: 'QUARANTINED' });
    expect(quarantined.row?.['message']).toBe('in quarantine after 3 failed attempts, the last with WRITE_FAILED');
    // Under another manifest too, and `--again` is no way round it.
    bench.file('other.csv', `device_id\n${struck ?? ''}\n`);
    const elsewhere = await bench.run(runArgs(bad).map(word => (word === 'rack.csv' ? 'other.csv' : word)));
    expect(elsewhere.code).toBe(3);
    expect(jsonLines(elsewhere.stdout).at(-1)).toMatchObject({ skipped: 1, exitCode: 3 });
    expect((await row('--again')).row).toMatchObject({ outcome: 'skipped', code: 'QUARANTINED' });
    const plan = await bench.run([...runArgs(bad, '--plan', '--retry-failed')]);
    expect(plan.stdout).toContain('in quarantine after 3 failed attempts');
    const status = await bench.run(['status', '--json']);
    expect(status.stdout).toContain('"code":"QUARANTINED"');

    const released = await bench.run(['release', struck ?? '', '--why', 'new flash']);
    expect(released).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('3 failed attempt(s) count no more') as string,
    });
    bad.child.kill('SIGTERM');
    await exit(bad.child);
    const mended = await bench.serve(['rack', '--listen', '127.0.0.1:0', ...state]);
    const after = await bench.run(runArgs(mended, '--only', struck ?? ''));
    expect(jsonLines(after.stdout).at(-1)).toMatchObject({ pass: 1, exitCode: 4 });
    const { stdout } = await bench.run(['history', struck ?? '', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ failures: 0, releases: [{ why: 'new flash' }] });
    expect((await bench.run(['release', other ?? ''])).stdout).toContain('nothing to release');
  });

  test('a device that nobody knows can not be released', async () => {
    await using at = await standing(['--count', '1']);
    const { bench } = at;
    await bench.run(['run', 'rack.csv', '--sim', '1', '--offline', '--wait', '0']);
    expect(await bench.run(['release', '0123456789abcdef01234567'])).toMatchObject({ code: 2 });
    expect(await bench.run(['release', 'xyz'])).toMatchObject({ code: 2 });
  });
});

describe.concurrent('while a run is on', () => {
  test('db backup makes a whole copy, which is whole by itself', async () => {
    await using at = await standing(['--count', '4', '--hubs', '1', '--write-ms', '1500']);
    const { bench, rack } = at;
    const child = bench.start(runArgs(rack, '--concurrency', '2'), ENV);
    await vi.waitUntil(async () => (await writing(bench)) > 0, { timeout: 240_000 });
    expect((await bench.run(['db', 'backup', 'copy.db'])).code).toBe(0);
    expect(child.exitCode).toBeNull();
    const checked = await bench.run(['db', 'check', '--db', 'copy.db'], {
      PHOTON_FLEET_VAULT_IDENTITY_FILE: bench.path('photon-fleet.identity'),
    });
    expect(checked).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('and so is all that is sealed') as string,
    });
    expect(await exit(child)).toBe(4);
  });
});

describe('what is sealed', () => {
  test('is opened by db check: one that was exchanged for another’s is found, exit 7', async () => {
    await using at = await standing(['--count', '1']);
    const { bench } = at;
    bench.file('two.csv', csvOf([{ deviceId: '1'.repeat(24) }, { deviceId: '2'.repeat(24) }]));
    await bench.run(['run', 'two.csv', '--sim', '2', '--offline', '--wait', '0']);
    const { default: Database } = await import('better-sqlite3');
    const db = new Database(bench.path('photon-fleet.db'));
    db.exec(`UPDATE keys SET (sealed_private, sealed_sha256) =
      (SELECT sealed_private, sealed_sha256 FROM keys WHERE id = 2) WHERE id = 1`);
    db.close();
    const { code, stdout, stderr } = await bench.run(['db', 'check']);
    expect(code).toBe(7);
    expect(stdout).toMatch(/^key 1 of [12]{24}: a sealed item of device [12]{24} is another one's \(deviceId\)$/m);
    expect(stdout).toMatch(/^keys 1 is not what the journal says: sealed_sha256$/m);
    expect(stderr).toContain('[RECORD_INVALID]');
  });

  test('is left closed where the identity file is not there, and db check says so', async () => {
    await using at = await standing(['--count', '1']);
    const { bench } = at;
    await bench.run(['run', 'rack.csv', '--sim', '1', '--offline', '--wait', '0']);
    const { code, stdout, stderr } = await bench.run(['db', 'check'], {
      PHOTON_FLEET_VAULT_IDENTITY_FILE: bench.path('nowhere.identity'),
    });
    expect({ code, stdout: stdout.replace(bench.folder, '…') }).toEqual({
      code: 0,
      stdout: '…/photon-fleet.db: the record is whole\n',
    });
    expect(stderr).toContain('what is sealed was compared with its hash, and not opened');
  });
});

test('a fail point that is none is told, and nothing is touched', async () => {
  await using bench = new Bench();
  const { code, stderr } = await bench.run(['devices'], { PHOTON_FLEET_FAIL_AT: 'step:dance' });
  expect(code).toBe(2);
  expect(stderr).toMatchInlineSnapshot(`
    "error: PHOTON_FLEET_FAIL_AT names no fail point: "step:dance" [USAGE]
    hint: it is for tests of this program; unset it
    "
  `);
});
