import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';

/** A process that has come to its end. */
export interface Ran {
  readonly code: number | null;
  readonly wallMs: number;
  /** Peak of its resident memory, in MiB; 0 where /proc told nothing. */
  readonly peakMiB: number;
  readonly stdout: string;
  readonly stderr: string;
  /** When the first line of stdout came, in ms from the start; NaN where none did. */
  readonly firstLineMs: number;
}

export interface Surroundings {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Whether its memory is looked at, which costs a few parts in a hundred, and much more below emulation. */
  readonly memory?: boolean;
}

const LOOK_EVERY_MS = 20;

/** Runs a command to its end, timed from outside. */
export async function run(
  command: string,
  args: readonly string[],
  { cwd, env = process.env, memory = true }: Surroundings = {},
): Promise<Ran> {
  const began = performance.now();
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr, peakMiB, firstLineMs] = ['', '', 0, NaN];
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    if (stdout === '') firstLineMs = performance.now() - began;
    stdout += piece;
  });
  child.stderr.setEncoding('utf8').on('data', (piece: string) => (stderr += piece));
  const look = (): void => void peakOf(child.pid).then(peak => (peakMiB = Math.max(peakMiB, peak)));
  const looking = memory ? setInterval(look, LOOK_EVERY_MS) : undefined;
  try {
    const [code, wallMs] = await new Promise<[number | null, number]>((resolve, reject) => {
      let exitedMs = 0;
      child.once('error', reject);
      child.once('exit', () => (exitedMs = performance.now() - began));
      child.once('close', status => resolve([status, exitedMs]));
    });
    return { code, wallMs, peakMiB, stdout, stderr, firstLineMs };
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
