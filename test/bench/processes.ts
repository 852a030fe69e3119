import { spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';

/** A process that has come to its end. */
export interface Ran {
  readonly code: number | null;
  readonly wallMs: number;
  /** Peak of its resident memory, in MiB; 0 where /proc told nothing. */
  readonly peakMiB: number;
  readonly stdout: string;
  readonly stderr: string;
  /** When each line of stdout came, in ms from the start. */
  readonly lines: readonly { readonly atMs: number; readonly text: string }[];
}

const LOOK_EVERY_MS = 20;

/** Runs a command to its end, timed from outside. */
export async function run(
  command: string,
  args: readonly string[],
  { cwd, env = process.env }: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  const began = performance.now();
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const lines: { atMs: number; text: string }[] = [];
  let [stdout, stderr, rest, peakMiB] = ['', '', '', 0];
  let threads = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    const atMs = performance.now() - began;
    stdout += piece;
    const parts = (rest + piece).split('\n');
    rest = parts.pop() ?? '';
    for (const text of parts) lines.push({ atMs, text });
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => (stderr += piece));
  const looking = setInterval(() => {
    void peakOf(child.pid).then(peak => (peakMiB = Math.max(peakMiB, peak)));
    if (process.env['BENCH_STEPS'] !== undefined) void threadsOf(child.pid).then(t => { if (t) threads = t; });
  }, LOOK_EVERY_MS);
  try {
    const [code, wallMs] = await new Promise<[number | null, number]>((resolve, reject) => {
      let exitedMs = 0;
      child.once('error', reject);
      child.once('exit', () => (exitedMs = performance.now() - began));
      child.once('close', status => resolve([status, exitedMs]));
    });
    if (threads !== '') process.stdout.write(`THREADS ${threads}\n`);
    return { code, wallMs, peakMiB, stdout, stderr, lines };
  } finally {
    clearInterval(looking);
  }
}

/** The kernel's own high-water mark, which only grows: the last look is all but the peak. */
async function peakOf(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid ?? 0}/status`, 'utf8').catch(() => '');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
}

/** What `run` gave, or an error with its words where its exit code is another one. */
export function expectCode(ran: Ran, ...codes: readonly number[]): Ran {
  if (ran.code === null || !codes.includes(ran.code)) {
    throw new Error(`exit ${ran.code}: ${ran.stderr.slice(-2000)}${ran.stdout.slice(-2000)}`);
  }
  return ran;
}

export async function threadsOf(pid: number | undefined): Promise<string> {
  const ids = await readdir(`/proc/${pid ?? 0}/task`).catch(() => []);
  const stats = await Promise.all(ids.map(id => readFile(`/proc/${pid ?? 0}/task/${id}/stat`, 'utf8').catch(() => '')));
  return stats.map(stat => { const f = stat.slice(stat.lastIndexOf(')') + 2).split(' '); return `${/\((.*)\)/.exec(stat)?.[1] ?? ''}:${(Number(f[11]) / 100).toFixed(1)}+${(Number(f[12]) / 100).toFixed(1)}`; }).join(' ');
}
