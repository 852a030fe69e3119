import { existsSync, readFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { FAIL_POINTS, FAIL_VARIABLE } from '#src/core/fail-points.ts';
import { makeModule } from '#src/sim/photon-modules.ts';
import { Bench, csvOf, exit, jsonLines } from '../support/cli.ts';
import { partFacts, writeParts } from '../support/firmware-files.ts';

const LONG_MS = 600_000;
const TOKEN = { PARTICLE_ACCESS_TOKEN: 'secret-token-4711' };

const jobText = (part1: string, part2: string): string =>
  `name: flash\nsteps:\n  - identify\n  - firmware:\n      system-part1: ${part1}\n      system-part2: ${part2}\n`;

describe('a job whose firmware is not what it should be', () => {
  test('ends with 2 and one line that names the file, and touches nothing', async () => {
    await using bench = new Bench();
    const { part1, part2 } = writeParts(bench.folder);
    const { part1: facts } = partFacts(300);
    const bad: Record<string, Buffer> = {
      'truncated.bin': part1.bytes.subarray(0, 70_000),
      'crc.bin': Buffer.from(part1.bytes).fill(0, 5000, 5004),
      'address.bin': makeModule({ ...facts, start: 0x0804_0000 }),
      'bootloader.bin': makeModule({ ...facts, fn: 2, index: 0 }),
      'p1.bin': makeModule({ ...facts, platform: 'p1' }),
      'older.bin': makeModule({ ...facts, version: 207 }),
    };
    bench.file('rack.csv', 'device_id\n0123456789abcdef01234567\n');
    const lines: string[] = [];
    for (const [name, bytes] of Object.entries(bad)) {
      bench.file(name, bytes);
      bench.file('job.yaml', jobText(name, part2.file));
      const { code, stdout, stderr } = await bench.run([
        'run',
        'rack.csv',
        '--job',
        'job.yaml',
        '--sim',
        '1',
        '--wait',
        '0',
      ]);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      lines.push(...stderr.trim().split('\n').slice(0, 1));
      expect(existsSync(bench.path('photon-fleet.db'))).toBe(false);
    }
    expect(lines.map(line => line.replaceAll(`${bench.folder}/`, ''))).toMatchInlineSnapshot(`
      [
        "error: truncated.bin: it has 70000 bytes, and its header says 140004 [FIRMWARE_INVALID]",
        "error: crc.bin: it has another CRC-32 than its bytes: it is damaged [FIRMWARE_INVALID]",
        "error: address.bin: it begins at 0x08040000 and not at 0x08020000 [FIRMWARE_INVALID]",
        "error: bootloader.bin: it is a bootloader, which can not be written over DFU [FIRMWARE_INVALID]",
        "error: part2-300.bin: it is for a Photon, and p1.bin for a P1 [FIRMWARE_INVALID]",
        "error: part2-300.bin: system-part2 version 300 needs system-part1 of version 300 or newer, and there is version 207 [FIRMWARE_INVALID]",
      ]
    `);
  });
});

test('a module that a row of the manifest names is checked as well, before anything is touched', async () => {
  await using bench = new Bench();
  const { part1, part2 } = writeParts(bench.folder);
  bench.file('crc.bin', Buffer.from(part1.bytes).fill(0, 5000, 5004));
  bench.file('job.yaml', jobText(part1.file, part2.file));
  bench.file('rack.csv', 'device_id,system_part1\n0123456789abcdef01234567,crc.bin\n');
  const ended = await bench.run(['run', 'rack.csv', '--job', 'job.yaml', '--sim', '1', '--wait', '0']);
  expect(ended.code).toBe(2);
  expect(ended.stderr.replaceAll(`${bench.folder}/`, '').split('\n')[0]).toBe(
    'error: line 2 of the manifest: crc.bin: it has another CRC-32 than its bytes: it is damaged [FIRMWARE_INVALID]',
  );
  expect(existsSync(bench.path('photon-fleet.db'))).toBe(false);
});

describe('killed at each of its points', () => {
  test(
    'a flashing is finished by the next run, and the device has its key after a reset',
    { timeout: LONG_MS },
    async () => {
      const points = FAIL_POINTS.filter(point =>
        /^flash:|step:firmware|:(noteModules|beginFlash|endFlash):/.test(point),
      );
      const cases = [...points, 'flash:erased@3', 'flash:sector-written@3'];
      await using bench = new Bench();
      const { part1, part2 } = writeParts(bench.folder);
      const serve = (...faults: string[]) =>
        bench.serve([
          ...['rack', '--listen', '127.0.0.1:0', '--count', String(cases.length), '--hubs', '1', '--write-ms', '2'],
          ...['--state', bench.path('rack'), ...faults],
        ]);
      const rack = await serve('--fault', '*:dct-zeros');
      const cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0']);
      bench.file('rack.csv', csvOf(rack.devices));
      const env = {
        ...TOKEN,
        PHOTON_FLEET_CLOUD_URL: cloud.url,
        PHOTON_FLEET_FIRMWARE_SYSTEM_PART1: part1.file,
        PHOTON_FLEET_FIRMWARE_SYSTEM_PART2: part2.file,
      };
      const run = (address: string, more: NodeJS.ProcessEnv = {}, ...args: string[]) =>
        bench.run(['run', 'rack.csv', '--job', 'repair', '--rack', address, '--wait', '20', '--json', ...args], {
          ...env,
          ...more,
        });
      for (const [n, point] of cases.entries()) {
        const { code } = await run(rack.address, { [FAIL_VARIABLE]: point }, '--only', rack.devices[n]!.deviceId);
        expect({ point, code }).toEqual({ point, code: null });
      }
      const between = rack.devices[cases.indexOf('flash:erased')]!.deviceId;
      expect((await bench.run(['history', between])).stdout).toContain('not through: the device is between parts');
      expect((await bench.run(['audit', 'verify'])).code).toBe(0);
      const flashed = jsonLines((await run(rack.address)).stdout).filter(({ type }) => type === 'device');
      expect(flashed.map(({ code }) => code)).toEqual(cases.map(() => 'RESET_NEEDED'));
      for (let device = 1; device <= cases.length; device += 1) {
        for (const { bytes, address } of [part1, part2]) {
          const file = `${String(device).padStart(4, '0')}-internal-0${address.toString(16)}.bin`;
          expect(readFileSync(bench.path(`rack/${file}`)).equals(bytes.subarray(0, 131_072))).toBe(true);
        }
      }

      rack.child.kill('SIGTERM');
      await exit(rack.child);
      const reset = await serve();
      const ended = await run(reset.address);
      expect(jsonLines(ended.stdout).at(-1)).toMatchObject({ pass: cases.length, exitCode: 0 });
      expect((await bench.run(['db', 'check'])).code).toBe(0);
      expect((await bench.run(['audit', 'verify'])).code).toBe(0);
      const db = new Database(bench.path('photon-fleet.db'), { readonly: true });
      try {
        expect(db.prepare('SELECT state, count(*) AS n FROM flashings GROUP BY state').all()).toEqual([
          { state: 'whole', n: cases.length },
        ]);
      } finally {
        db.close();
      }
      const { deviceId } = rack.devices[0]!;
      const history = await bench.run(['history', deviceId]);
      expect(history.stdout).toMatch(/system-part1 +whole +300/);
      expect(history.stdout).toContain('flashing of system-part1 300, system-part2 300, begun');
      expect(history.stdout).toContain('flashed, every byte proven');
      const told = JSON.parse((await bench.run(['history', deviceId, '--json'])).stdout) as Record<string, unknown[]>;
      expect(told['flashings']).toMatchObject([{ state: 'whole' }]);
      expect(told['modules']!.length).toBeGreaterThan(3);
    },
  );
});

test('devices tells the modules of each device, as text and as JSON', async () => {
  await using bench = new Bench();
  const rack = await bench.serve(['rack', '--listen', '127.0.0.1:0', '--count', '2', '--fault', '#2:dct-zeros']);
  const json = await bench.run(['devices', '--rack', rack.address, '--json']);
  const { devices } = JSON.parse(json.stdout) as { devices: Record<string, unknown>[] };
  expect(devices.map(({ modules }) => modules)).toEqual([
    [
      { slot: 'system-part1', state: 'whole', version: 207, function: 4 },
      { slot: 'system-part2', state: 'whole', version: 207, function: 4 },
      { slot: 'user-part', state: 'empty', version: null, function: null },
    ],
    [
      { slot: 'system-part1', state: 'whole', version: 207, function: 4 },
      { slot: 'system-part2', state: 'wrong-crc', version: 207, function: 4 },
      { slot: 'user-part', state: 'empty', version: null, function: null },
    ],
  ]);
  const { stdout } = await bench.run(['devices', '--rack', rack.address]);
  expect(stdout).toContain('MODULES');
  expect(stdout).toMatch(/ 207 207 - /);
  expect(stdout).toMatch(/ 207 ! - /);
});
