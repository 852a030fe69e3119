import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CLI } from './project.ts';

export { CLI } from './project.ts';

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder of its own for each test, with a runtime folder of its own, so that tests do not hold each other's lock. */
export class Bench implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'photon-fleet-cli-'));
  readonly #children: ChildProcess[] = [];

  path(name: string): string {
    return join(this.folder, name);
  }

  file(name: string, content: string | Buffer): string {
    writeFileSync(this.path(name), content);
    return this.path(name);
  }

  /** Runs `photon-fleet ARGS` to its end. */
  async run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
    const child = this.start(args, env);
    const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exit(child)]);
    return { code, stdout, stderr };
  }

  start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = spawn(process.execPath, [CLI, ...args], {
      cwd: this.folder,
      env: {
        PATH: process.env['PATH'],
        HOME: this.folder,
        NO_COLOR: '1',
        XDG_RUNTIME_DIR: this.folder,
        // The cloud is often in the process of the tests, which may be busy for longer than a cloud ever is.
        PHOTON_FLEET_CLOUD_TIMEOUT_MS: '120000',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    return child;
  }

  /** Starts a simulator and waits until it listens. @returns what its first line says */
  async serve(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Served> {
    const child = this.start(['sim', ...args, '--json'], env);
    const errors = text(child.stderr);
    if (!child.stdout) throw new Error('no stdout');
    for await (const line of createInterface(child.stdout)) {
      return { child, ...(JSON.parse(line) as Omit<Served, 'child'>) };
    }
    throw new Error(`the simulator did not start: ${await errors}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await exit(child);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface Served {
  readonly child: ChildProcess;
  readonly address: string;
  readonly url: string;
  readonly devices: readonly { path: string; deviceId: string }[];
}

/** A manifest of the devices of a virtual rack. */
export function csvOf(devices: readonly { deviceId: string }[]): string {
  return ['device_id', ...devices.map(({ deviceId }) => deviceId), ''].join('\n');
}

export function jsonLines(stdout: string): Record<string, unknown>[] {
  return stdout
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as Record<string, unknown>);
}

/** For a child whose output is read: `exit` may come before the last of what it said. */
export function closed(child: ChildProcess): Promise<number | null> {
  return new Promise(resolve => child.once('close', code => resolve(code)));
}

export function exit(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise(resolve => child.once('exit', code => resolve(code)));
}

async function text(stream: NodeJS.ReadableStream | null): Promise<string> {
  let all = '';
  for await (const chunk of stream ?? []) all += String(chunk);
  return all;
}
