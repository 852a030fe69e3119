import { Bench, CLI } from '../support/cli.ts';
import { under, figureOf } from './figures.ts';
import type { Row } from './figures.ts';
import { expectCode, run } from './processes.ts';

/** h: a run whose manifest is long, and of whose devices one is there. */
export async function benchMemory(rounds: number, rows: number): Promise<Row[]> {
  const peaks: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    await using bench = new Bench();
    const rack = await bench.serve(['rack', '--count', '1', '--listen', '127.0.0.1:0', '--write-ms', '0']);
    const there = rack.devices[0]?.deviceId ?? '';
    const others = Array.from({ length: rows - 1 }, (_, n) => `${(n + 1).toString(16).padStart(24, '0')},B-${n}\n`);
    const manifest = bench.file('long.csv', `device_id,name\n${there},A-1\n${others.join('')}`);
    const args = ['run', manifest, '--rack', rack.address, '--db', bench.path('fleet.db'), '--offline', '--wait', '1'];
    const env = { ...process.env, XDG_RUNTIME_DIR: bench.folder };
    const ran = expectCode(await run(process.execPath, [CLI, ...args, '--json'], { cwd: bench.folder, env }), 3);
    peaks.push(ran.peakMiB);
  }
  const what = `peak memory of \`run\` with a manifest of ${rows.toLocaleString('en')} rows, MiB`;
  return [{ name: 'h', what, figure: figureOf(peaks), goal: under(200) }];
}
