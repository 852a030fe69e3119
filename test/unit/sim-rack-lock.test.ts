import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseFault } from '#src/sim/rack-faults.ts';
import { createRack, type RackOptions } from '#src/sim/virtual-rack.ts';

let folder: string;
const children: ChildProcess[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'photon-fleet-rack-'));
});
afterEach(async () => {
  for (const child of children.splice(0)) await kill(child);
  await rm(folder, { recursive: true, force: true });
});

async function rackHere(options: Partial<RackOptions> = {}) {
  return await createRack({ count: 1, hubs: 1, writeMs: 0, keys: 'blank', stateDir: folder, ...options });
}

async function locks(): Promise<string[]> {
  return (await readdir(folder)).filter(name => name.endsWith('.lock'));
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** A rack on the same folder in a process of its own. @returns `open`, or the code of what it was refused with */
async function otherRack(): Promise<{ child: ChildProcess; said: string }> {
  const program = `
    import { createRack } from '#src/sim/virtual-rack.ts';
    const stateDir = process.argv[1];
    setInterval(() => undefined, 60_000);
    try {
      await createRack({ count: 1, hubs: 1, writeMs: 0, keys: 'blank', stateDir });
      console.log('open');
    } catch (thrown) {
      console.log(thrown.code);
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, folder], {
    cwd: new URL('../..', import.meta.url),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [said] = (await once(createInterface(child.stdout), 'line')) as [string];
  return { child, said };
}

/** The PID of a process that was there a moment ago. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', ''], { stdio: 'ignore' });
  await once(child, 'exit');
  return child.pid!;
}

describe('the state folder of a rack', () => {
  test('is refused while another process uses it, with its PID, and stays as it is', async () => {
    const { child, said } = await otherRack();
    expect(said).toBe('open');
    const before = await readdir(folder);
    const [file] = await locks();
    await expect(rackHere()).rejects.toMatchObject({
      code: 'SIM_STATE_INVALID',
      message: `${folder} can't hold the state of a rack: process ${child.pid} uses it`,
      hint: `stop the rack of process ${child.pid}, or name another folder; if that process is no rack, delete \`${file}\` there`,
      facts: { folder, holder: child.pid },
    });
    expect(await readdir(folder)).toEqual(before);
  });

  test('is free again when that process was killed', async () => {
    const { child } = await otherRack();
    await kill(child);
    expect(await locks()).toHaveLength(1);
    const rack = await rackHere();
    expect(await locks()).toEqual([expect.stringContaining(`rack-${process.pid}-`)]);
    await rack.close();
    expect(await locks()).toEqual([]);
  });

  test('is refused to a second rack of the same process, until the first is closed', async () => {
    const first = await rackHere();
    await expect(rackHere()).rejects.toMatchObject({ code: 'SIM_STATE_INVALID' });
    await first.close();
    const second = await rackHere();
    await first.close(); // again: the second one's lock is not its to give back
    expect(await locks()).toHaveLength(1);
    await second.close();
  });

  test('is not held up by the lock of a dead process', async () => {
    await writeFile(join(folder, `rack-${await deadPid()}-0.lock`), '');
    await (await rackHere()).close();
    expect(await locks()).toEqual([]);
  });

  test.runIf(existsSync('/proc/self/stat'))('is not held up by a PID that another program has by now', async () => {
    await writeFile(join(folder, `rack-${process.ppid}-1.lock`), '');
    await (await rackHere()).close();
    expect(await locks()).toEqual([]);
  });

  test('is refused where nothing tells a living process from the one that left its lock', async () => {
    await writeFile(join(folder, `rack-${process.ppid}-0.lock`), '');
    await expect(rackHere()).rejects.toMatchObject({ facts: { holder: process.ppid } });
    expect(await locks()).toEqual([`rack-${process.ppid}-0.lock`]);
  });

  test('is free again where the rack could not be made', async () => {
    await expect(rackHere({ faults: [parseFault('#2:no-serial')] })).rejects.toMatchObject({ code: 'USAGE' });
    await writeFile(join(folder, 'rack.json'), 'not json');
    await expect(rackHere()).rejects.toMatchObject({ code: 'SIM_STATE_INVALID' });
    expect(await locks()).toEqual([]);
  });

  test('is used by one process at most where several begin at once', async () => {
    const racks = await Promise.all([otherRack(), otherRack(), otherRack()]);
    const said = racks.map(each => each.said).sort();
    expect(said.filter(each => each !== 'open' && each !== 'SIM_STATE_INVALID')).toEqual([]);
    expect(said.filter(each => each === 'open').length).toBeLessThanOrEqual(1);
    expect(await locks()).toHaveLength(said.filter(each => each === 'open').length);
  });
});
