import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { projectFile } from '../support/project.ts';
import { atLeast, figureOf } from './figures.ts';
import type { Row } from './figures.ts';

/** The whole rack for dfu-util, of which 8 devices are timed one after the other. */
const RACK_OVER_SERIAL = 60 / 8;

interface Line {
  readonly part: string;
  readonly wallMs: number;
  readonly again?: number;
}

/** a and b: below a real kernel in the virtual machine, against dfu-util. Each round measures all of them in turn. */
export async function benchGuest(rounds: number): Promise<Row[]> {
  const parts = ['pool', 'made', 'serial', 'parallel', 'serial-made', 'parallel-made'];
  const lines = await guest([String(rounds), ...parts]);
  const of = (part: string): number[] => lines.filter(line => line.part === part).map(({ wallMs }) => wallMs);
  const over = (theirs: string, ours: string, times = 1): number[] =>
    of(theirs).map((wallMs, round) => (wallMs * times) / (of(ours)[round] ?? NaN));
  const rows: Row[] = [];
  const add = (name: string, what: string, ratios: number[], goal: Row['goal']): number =>
    rows.push({ name, what, figure: figureOf(ratios), goal });
  const serial = 'dfu-util, three calls a device, one device after the other, over `run`';
  const parallel = 'the same with `xargs -P 60`';
  add('a', `60 devices: ${serial}, keys made ahead`, over('serial', 'pool', RACK_OVER_SERIAL), atLeast(30));
  add('b', `${parallel}, keys made ahead`, over('parallel', 'pool'), atLeast(12));
  add('a′', `${serial}, keys made meanwhile`, over('serial-made', 'made', RACK_OVER_SERIAL), atLeast(12));
  add('b′', `${parallel}, keys made meanwhile`, over('parallel-made', 'made'), atLeast(6));
  return rows;
}

async function guest(args: readonly string[]): Promise<Line[]> {
  const child = spawn('bash', [projectFile('test/bench/guest.sh'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: Line[] = [];
  for await (const text of createInterface(child.stdout)) {
    process.stdout.write(`  ${text}\n`);
    if (text.startsWith('BENCH ')) lines.push(JSON.parse(text.slice(6)) as Line);
  }
  const code = await new Promise<number | null>(resolve => {
    if (child.exitCode !== null) resolve(child.exitCode);
    else child.once('exit', resolve);
  });
  if (code !== 0) throw new Error(`the guest ended with ${code}`);
  return lines;
}
