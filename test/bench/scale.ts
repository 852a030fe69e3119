import { rm } from 'node:fs/promises';
import { Bench, CLI, csvOf, jsonLines } from '../support/cli.ts';
import { makeBigRecord, newKeyOf } from '../support/big-record.ts';
import { deviceIdOf } from '../support/record-bench.ts';
import { figureOf } from './figures.ts';
import type { Row } from './figures.ts';
import { expectCode, run } from './processes.ts';

const RACKS = 10;
const DEVICES_A_RACK = 100;
/** A device that was keyed once leaves some eleven rows behind. */
const DEVICES_ON_RECORD = 100_000;

/** A hall of racks at once, and a record of a million rows. */
export async function benchScale(): Promise<Row[]> {
  return [...(await manyRacks()), ...(await longHistory())];
}

async function manyRacks(): Promise<Row[]> {
  await using bench = new Bench();
  const size = ['--count', String(DEVICES_A_RACK), '--hubs', '12', '--keys', 'blank', '--listen', '127.0.0.1:0'];
  const cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0']);
  const env = {
    ...process.env,
    PARTICLE_ACCESS_TOKEN: 'token-of-the-bench',
    PHOTON_FLEET_CLOUD_URL: cloud.url,
    XDG_RUNTIME_DIR: bench.folder,
  };
  const timed = async (count: number): Promise<{ durationMs: number; peakMiB: number }> => {
    const racks = await Promise.all(
      Array.from({ length: count }, (_, rack) => {
        const own = Array.from({ length: DEVICES_A_RACK }, (_, n) => ({ deviceId: deviceIdOf(rack * 1000 + n + 1) }));
        return bench.serve(['rack', ...size, '--ids', bench.file(`ids-${count}-${rack}.csv`, csvOf(own))]);
      }),
    );
    const devices = racks.flatMap(rack => rack.devices);
    const manifest = bench.file(`racks-${count}.csv`, csvOf(devices));
    const db = ['--db', bench.path(`racks-${count}.db`)];
    const around = { cwd: bench.folder, env };
    expectCode(
      await run(process.execPath, [CLI, 'keys', 'prepare', '--count', String(devices.length), ...db], around),
      0,
    );
    const args = ['run', manifest, ...racks.flatMap(rack => ['--rack', rack.address]), ...db, '--json'];
    const ran = expectCode(await run(process.execPath, [CLI, ...args, '--concurrency', '1000'], around), 0);
    for (const rack of racks) rack.child.kill('SIGINT');
    const summary = jsonLines(ran.stdout).at(-1);
    if (summary?.['pass'] !== devices.length) throw new Error(`not all passed: ${ran.stdout.slice(-500)}`);
    return { durationMs: Number(summary['durationMs']), peakMiB: ran.peakMiB };
  };
  const one = await timed(1);
  const ten = await timed(RACKS);
  const what = `${RACKS * DEVICES_A_RACK} devices on ${RACKS} racks over ${DEVICES_A_RACK} on one, keys made ahead`;
  return [
    { name: '', what, figure: figureOf([ten.durationMs / one.durationMs]), goal: null },
    { name: '', what: '… its peak memory, MiB', figure: figureOf([ten.peakMiB]), goal: null },
  ];
}

async function longHistory(): Promise<Row[]> {
  await using bench = new Bench();
  const db = bench.path('long.db');
  const { events } = makeBigRecord(db, DEVICES_ON_RECORD);
  const device = deviceIdOf(Math.floor(DEVICES_ON_RECORD / 2));
  const over = async (args: readonly string[]): Promise<number[]> => {
    const ratios: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      const ours = expectCode(await run(process.execPath, [CLI, ...args, '--db', db]), 0);
      const help = expectCode(await run(process.execPath, [CLI, '--help']), 0);
      if (round > 0) ratios.push(ours.wallMs / help.wallMs);
    }
    return ratios;
  };
  const rows = [
    {
      name: '',
      what: `\`history\` of one device over \`--help\`, ${events} events on record`,
      figure: figureOf(await over(['history', device])),
      goal: null,
    },
    {
      name: '',
      what: '`keys find` over `--help`, the same record',
      figure: figureOf(await over(['keys', 'find', newKeyOf(7).slice(0, 16)])),
      goal: null,
    },
  ];
  await rm(db, { force: true });
  return rows;
}
