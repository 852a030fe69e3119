import { Bench, CLI, csvOf, jsonLines } from '../support/cli.ts';
import { expectCode, run } from './processes.ts';
import type { Ran } from './processes.ts';

export const WRITE_MS = 300;

export interface RackRun {
  readonly devices: number;
  readonly hubs: number;
  /** Key pairs are made ahead; else during the run. */
  readonly prepared: boolean;
  /** Whether its memory is looked at meanwhile, which costs a little. */
  readonly memory: boolean;
}

export interface RackRan {
  readonly ran: Ran;
  /** From the start of the run, after start-up, until the last row is settled; as its summary says. */
  readonly durationMs: number;
}

/** `run` as a whole process over USB/IP: a virtual rack and a virtual cloud in processes of their own, a new database. */
export async function runOnRack({ devices, hubs, prepared, memory }: RackRun): Promise<RackRan> {
  await using bench = new Bench();
  const size = ['--count', String(devices), '--hubs', String(hubs), '--write-ms', String(WRITE_MS)];
  const [rack, cloud] = await Promise.all([
    bench.serve(['rack', ...size, '--listen', '127.0.0.1:0']),
    bench.serve(['cloud', '--listen', '127.0.0.1:0']),
  ]);
  const manifest = bench.file('rack.csv', csvOf(rack.devices));
  const env = {
    ...process.env,
    PARTICLE_ACCESS_TOKEN: 'token-of-the-bench',
    PHOTON_FLEET_CLOUD_URL: cloud.url,
    XDG_RUNTIME_DIR: bench.folder,
  };
  const db = ['--db', bench.path('fleet.db')];
  const around = { cwd: bench.folder, env };
  if (prepared) {
    const args = [CLI, 'keys', 'prepare', '--count', String(devices), ...db];
    expectCode(await run(process.execPath, args, around), 0);
  }
  const args = [CLI, 'run', manifest, '--rack', rack.address, '--json', ...db];
  const ran = expectCode(await run(process.execPath, args, { ...around, memory }), 0);
  const summary = jsonLines(ran.stdout).at(-1);
  if (summary?.['pass'] !== devices) throw new Error(`not all passed: ${ran.stdout}`);
  return { ran, durationMs: Number(summary['durationMs']) };
}
