import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { Bench, csvOf, exit, jsonLines } from '../support/cli.ts';

const TOKEN = { PARTICLE_ACCESS_TOKEN: 'secret-token-4711' };

interface History {
  keys: { generation: number; fingerprint: string; state: string; cloud: { state: string } }[];
  backups: { sha256: string; bytes: number; classification: string }[];
  attempts: { outcome: string | null; steps: { name: string; state: string }[] }[];
}

async function historyOf(bench: Bench, deviceId: string): Promise<History> {
  return JSON.parse((await bench.run(['history', deviceId, '--json'])).stdout) as History;
}

describe('the demo', () => {
  test('repairs a rack of which a third is ruined, until all breathe cyan, and names a command that works', async () => {
    await using bench = new Bench();
    const { code, stdout } = await bench.run(['demo'], { TMPDIR: bench.folder });
    expect(code).toBe(0);
    expect(stdout).toMatch(/24 rows, 24 pass/);
    expect(stdout.match(/\d+ of 24 breathe cyan/g)).toEqual(['16 of 24 breathe cyan', '24 of 24 breathe cyan']);
    for (const light of ['red burst', 'orange burst', 'blinking yellow']) expect(stdout).toContain(light);
    const next = /^next: .*?photon-fleet (history .*)$/m.exec(stdout)?.[1]?.split(' ') ?? [];
    const history = await bench.run([...next, '--json']);
    expect(JSON.parse(history.stdout)).toMatchObject({ keys: [{ cloud: { state: 'accepted' } }] });
  });
});

describe('run over a rack in a process of its own, with a cloud in another', () => {
  test('says what it did as NDJSON: every row once, the summary last; and leaves nothing open to others', async () => {
    await using bench = new Bench();
    const rack = await bench.serve([
      'rack',
      '--listen',
      '127.0.0.1:0',
      '--count',
      '5',
      '--hubs',
      '2',
      '--write-ms',
      '5',
    ]);
    const cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0']);
    const gone = 'ffffffffffffffffffffffff';
    bench.file('rack.csv', csvOf([...rack.devices.slice(0, 4), { deviceId: gone }]));
    const env = { ...TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url };
    const { code, stdout } = await bench.run(['run', 'rack.csv', '--rack', rack.address, '--wait', '0', '--json'], env);
    expect(code).toBe(3);
    const lines = jsonLines(stdout);
    expect(lines.map(({ type }) => type)).toEqual([
      'run-started',
      'device',
      'device',
      'device',
      'device',
      'device',
      'summary',
    ]);
    for (const line of lines) expect(line['ts']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(Object.keys(lines[1]!).sort()).toEqual([
      'cloud',
      'code',
      'deviceId',
      'durationMs',
      'fingerprint',
      'hint',
      'message',
      'name',
      'outcome',
      'path',
      'ts',
      'type',
    ]);
    expect(lines.at(-2)).toMatchObject({
      deviceId: gone,
      outcome: 'unseen',
      code: 'NOT_SEEN',
      path: null,
      cloud: 'none',
    });
    expect(lines.at(-1)).toMatchObject({ rows: 5, pass: 4, unseen: 1, cloudPending: 0, exitCode: 3 });
    const told = (await (await fetch(`${cloud.url}/v1/sim/keys`)).json()) as {
      devices: Record<string, { fingerprint: string }>;
    };
    for (const { deviceId, path } of rack.devices.slice(0, 4)) {
      const history = await historyOf(bench, deviceId);
      expect(history.keys).toMatchObject([{ fingerprint: told.devices[deviceId]!.fingerprint, state: 'active' }]);
      expect(lines).toContainEqual(expect.objectContaining({ deviceId, path: `${rack.address}/${path}` }));
    }
    for (const file of readdirSync(bench.folder).filter(name => name.startsWith('photon-fleet.'))) {
      expect([file, (statSync(bench.path(file)).mode & 0o777).toString(8)]).toEqual([file, '600']);
    }
  });

  test('nothing of a token or a private key is in what it says, logs or stores', async () => {
    await using bench = new Bench();
    bench.file('rack.csv', 'device_id\n0123456789abcdef01234567\n');
    const { stdout, stderr } = await bench.run(
      ['run', 'rack.csv', '--sim', '1', '--wait', '0', '--verbose', '--log', 'events.log'],
      TOKEN,
    );
    const identity = readFileSync(bench.path('photon-fleet.identity'), 'utf8');
    expect(identity).toMatch(/^AGE-SECRET-KEY-1/m);
    const left = [stdout, stderr];
    for (const name of readdirSync(bench.folder)) {
      if (name.endsWith('.identity') || !statSync(bench.path(name)).isFile()) continue;
      left.push(readFileSync(bench.path(name), 'latin1'));
    }
    // Every device of a virtual rack carries fake Wi-Fi secrets, and PKCS#1 begins as the canonical form does.
    const begin = Buffer.from([0x30, 0x82, 0x02, 0x5f, 0x02, 0x01, 0x00, 0x02, 0x81, 0x81]);
    for (const needle of [
      'WIFI-SECRET',
      'secret-token',
      'AGE-SECRET',
      begin.toString('latin1'),
      begin.toString('hex'),
      begin.toString('base64').slice(0, 12),
    ]) {
      expect(left.filter(text => text.includes(needle))).toEqual([]);
    }
  });

  test('--plan says what would be done, and makes no file', async () => {
    await using bench = new Bench();
    bench.file('rack.csv', 'device_id\n0123456789abcdef01234567\n1123456789abcdef01234567\n');
    const { code, stdout } = await bench.run(['run', 'rack.csv', '--sim', '1', '--plan', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      job: 'rekey',
      rows: [
        { deviceId: '0123456789abcdef01234567', path: '1-1.1', action: 'work' },
        { deviceId: '1123456789abcdef01234567', path: null, action: 'wait' },
      ],
    });
    expect(readdirSync(bench.folder)).toEqual(['rack.csv']);
  });

  test('a second process on the same station ends with 5, and the lock of a killed one is free at once', async () => {
    await using bench = new Bench();
    const rack = await bench.serve(['rack', '--listen', '127.0.0.1:0', '--count', '1', '--write-ms', '0']);
    bench.file('rack.csv', csvOf([{ deviceId: 'ffffffffffffffffffffffff' }]));
    const first = bench.start(['run', 'rack.csv', '--rack', rack.address, '--offline', '--watch', '--json']);
    await firstLine(first.stdout);
    const second = await bench.run(['run', 'rack.csv', '--rack', rack.address, '--offline', '--db', 'other.db']);
    expect([second.code, second.stderr.includes('[STATION_BUSY]')]).toEqual([5, true]);
    expect((await bench.run(['status', '--json'])).code).toBe(0);
    first.kill('SIGKILL');
    await exit(first);
    const third = await bench.run(['run', 'rack.csv', '--rack', rack.address, '--offline', '--wait', '0']);
    expect(third.code).toBe(3);
  });

  test('killed in the middle of the writes, the next run finishes each row with the first key', async () => {
    await using bench = new Bench();
    const rack = await bench.serve([
      'rack',
      '--listen',
      '127.0.0.1:0',
      '--count',
      '3',
      '--write-ms',
      '600',
      '--state',
      'flash',
    ]);
    const cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0']);
    bench.file('rack.csv', csvOf(rack.devices));
    const env = { ...TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url };
    const args = ['run', 'rack.csv', '--rack', rack.address, '--wait', '0', '--verbose'];
    const first = bench.start(args, env);
    let verbose = '';
    for await (const line of createInterface(first.stderr!)) {
      verbose += `${line}\n`;
      if ((verbose.match(/ write$/gm) ?? []).length === 3) break;
    }
    first.kill('SIGKILL');
    await exit(first);
    const second = await bench.run([...args, '--json'], env);
    expect(second.code).toBe(0);
    expect(jsonLines(second.stdout)[0]).toMatchObject({ run: 1, resumed: true });
    for (const { deviceId } of rack.devices) {
      const { keys, attempts } = await historyOf(bench, deviceId);
      expect(keys).toMatchObject([{ generation: 1, state: 'active', cloud: { state: 'accepted' } }]);
      expect(attempts.map(({ outcome }) => outcome)).toEqual([null, 'pass']);
    }
  });

  test('a reader that goes away (| head) cuts nothing, and the exit code is the run’s own', async () => {
    await using bench = new Bench();
    bench.file('rack.csv', csvOf(Array.from({ length: 4 }, (_, n) => ({ deviceId: `${n}`.repeat(24) }))));
    const child = bench.start(['run', 'rack.csv', '--sim', '4', '--concurrency', '1', '--offline', '--json']);
    await firstLine(child.stdout);
    child.stdout?.destroy();
    expect(await exit(child)).toBe(4);
    const status = JSON.parse((await bench.run(['status', '--json'])).stdout) as { totals: unknown };
    expect(status.totals).toMatchObject({ rows: 4, pass: 4 });
  });

  test('Ctrl-C ends with 130, and the record says so', async () => {
    await using bench = new Bench();
    const rack = await bench.serve(['rack', '--listen', '127.0.0.1:0', '--count', '1', '--write-ms', '0']);
    bench.file('rack.csv', csvOf([{ deviceId: 'ffffffffffffffffffffffff' }]));
    const child = bench.start(['run', 'rack.csv', '--rack', rack.address, '--offline', '--watch', '--json']);
    await firstLine(child.stdout);
    child.kill('SIGINT');
    expect(await exit(child)).toBe(130);
    const status = JSON.parse((await bench.run(['status', '--json'])).stdout) as { totals: unknown; rows: unknown };
    expect(status).toMatchObject({ run: 1, totals: { unseen: 1 } });
  });
});

describe('replay and the outbox', () => {
  test('what the cloud did not take is sent later, and a refused key is parked until a hand retries it', async () => {
    await using bench = new Bench();
    bench.file('rack.csv', 'device_id\n0123456789abcdef01234567\n1123456789abcdef01234567\n');
    const run = await bench.run(['run', 'rack.csv', '--sim', '2', '--offline', '--wait', '0']);
    expect(run.code).toBe(4);
    const cloud = await bench.serve([
      'cloud',
      '--listen',
      '127.0.0.1:0',
      '--fault',
      'device:0123456789abcdef01234567:status:403',
    ]);
    const up = { ...TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url };
    const down = { ...TOKEN, PHOTON_FLEET_CLOUD_URL: 'http://127.0.0.1:1' };
    expect(await bench.run(['replay', '--json'], down)).toMatchObject({
      code: 4,
      stdout: '{"accepted":0,"pending":2,"refused":0,"superseded":0}\n',
    });
    // Not due yet, however slow this machine is: nothing is tried.
    const db = new Database(bench.path('photon-fleet.db'));
    db.prepare('UPDATE sends SET next_at = next_at + 600000').run();
    db.close();
    expect((await bench.run(['replay', '--json'], up)).stdout).toBe(
      '{"accepted":0,"pending":2,"refused":0,"superseded":0}\n',
    );
    expect(await bench.run(['replay', '--now', '--json'], up)).toMatchObject({
      code: 3,
      stdout: '{"accepted":1,"pending":0,"refused":1,"superseded":0}\n',
    });
    const outbox = JSON.parse((await bench.run(['outbox', '--json'])).stdout) as { sends: { deviceId: string }[] };
    expect(outbox.sends.toSorted((a, b) => (a.deviceId < b.deviceId ? -1 : 1))).toMatchObject([
      { deviceId: '0123456789abcdef01234567', generation: 1, state: 'refused', lastStatus: 403, nextAt: null },
      { deviceId: '1123456789abcdef01234567', generation: 1, state: 'accepted' },
    ]);
    expect((await bench.run(['outbox', 'retry', '0123456789abcdef01234567'])).code).toBe(0);
    const claimed = await bench.serve(['cloud', '--listen', '127.0.0.1:0']);
    expect(await bench.run(['replay'], { ...TOKEN, PHOTON_FLEET_CLOUD_URL: claimed.url })).toMatchObject({ code: 0 });
  });

  test('a bad token ends with 6 and keeps the queue', async () => {
    await using bench = new Bench();
    bench.file('rack.csv', 'device_id\n0123456789abcdef01234567\n');
    await bench.run(['run', 'rack.csv', '--sim', '1', '--offline', '--wait', '0']);
    const cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0', '--token'], TOKEN);
    const bad = { PARTICLE_ACCESS_TOKEN: 'other', PHOTON_FLEET_CLOUD_URL: cloud.url };
    expect(await bench.run(['replay', '--json'], bad)).toMatchObject({
      code: 6,
      stdout: '{"accepted":0,"pending":1,"refused":0,"superseded":0}\n',
    });
    expect(await bench.run(['replay', '--now'], { ...TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url })).toMatchObject({
      code: 0,
    });
  });

  test('a dropped send is never sent, and says why', async () => {
    await using bench = new Bench();
    bench.file('rack.csv', 'device_id\n0123456789abcdef01234567\n');
    await bench.run(['run', 'rack.csv', '--sim', '1', '--offline', '--wait', '0']);
    await bench.run(['outbox', 'drop', '0123456789abcdef01234567', '--why', 'scrapped']);
    const { stdout } = await bench.run(['outbox', '--json', '--state', 'dropped']);
    expect(JSON.parse(stdout)).toMatchObject({ sends: [{ state: 'dropped', lastError: 'dropped: scrapped' }] });
  });
});

describe('other commands', () => {
  test('devices lists a rack: path, mode, ID, where that comes from, key', async () => {
    await using bench = new Bench();
    const rack = await bench.serve([
      'rack',
      '--listen',
      '127.0.0.1:0',
      '--count',
      '3',
      '--fault',
      '#2:old-bootloader',
      '--fault',
      '#3:dct-zeros',
    ]);
    const { code, stdout } = await bench.run(['devices', '--rack', rack.address, '--json']);
    expect(code).toBe(0);
    const { devices } = JSON.parse(stdout) as { devices: Record<string, unknown>[] };
    expect(devices).toMatchObject([
      { vendorId: '2b04', productId: 'd006', mode: 'dfu', bootloader: 'new', identity: 'serial' },
      { bootloader: 'old', serial: '00000000010C', identity: 'dct', deviceId: rack.devices[1]!.deviceId },
      { identity: 'serial', key: 'DCT_UNREADABLE' },
    ]);
    expect(devices[0]!['key']).toMatch(/^(readable|misread)$/);
  });

  test('doctor says what it finds', async () => {
    await using bench = new Bench();
    const { code, stdout } = await bench.run(['doctor', '--json']);
    const { checks } = JSON.parse(stdout) as { checks: { name: string; state: string }[] };
    expect(checks.map(({ name }) => name)).toEqual([
      'Node',
      'clock',
      'database',
      'vault',
      'core dumps',
      'USB',
      'cloud',
    ]);
    expect(code).toBe(checks.some(({ state }) => state === 'bad') ? 2 : 0);
  });

  test('db check finds the record whole, and db backup copies it, 0600, never over another file', async () => {
    await using bench = new Bench();
    bench.file('rack.csv', 'device_id\n0123456789abcdef01234567\n');
    await bench.run(['run', 'rack.csv', '--sim', '1', '--wait', '0']);
    expect((await bench.run(['db', 'check'])).code).toBe(0);
    expect((await bench.run(['db', 'backup', 'copy.db'])).code).toBe(0);
    expect((statSync(bench.path('copy.db')).mode & 0o777).toString(8)).toBe('600');
    expect((await bench.run(['db', 'backup', 'copy.db'])).code).toBe(2);
    expect((await bench.run(['db', 'check', '--db', 'copy.db'])).code).toBe(0);
  });
});

test('no dynamic import of TypeScript is left in what was built', () => {
  const dist = new URL('../../dist/', import.meta.url);
  const files = readdirSync(dist, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.js'));
  expect(files.length).toBeGreaterThan(50);
  const left = files.filter(name => /import\(['"][^'"]*\.ts['"]\)/.test(readFileSync(new URL(name, dist), 'utf8')));
  expect(left).toEqual([]);
});

async function firstLine(stream: NodeJS.ReadableStream | null): Promise<void> {
  if (!stream) return;
  for await (const line of createInterface(stream)) {
    if (line !== '') return;
  }
}
