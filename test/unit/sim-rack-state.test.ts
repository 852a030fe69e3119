import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { APP_SECTION, DCT_COPIES, VERSION_BLOCK } from '#src/sim/photon-dct.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { createRack, type RackOptions } from '#src/sim/virtual-rack.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { dfu, Host } from './sim-bench.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'photon-fleet-rack-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function rackIn(stateDir: string, options: Partial<RackOptions> = {}) {
  return await createRack({ count: 2, hubs: 1, writeMs: 0, keys: 'blank', stateDir, ...options });
}

/** The two copies of the DCT as they lie on disk, the older one first; throws where one of them is not whole. */
async function copiesOnDisk(): Promise<Buffer[]> {
  const copies = DCT_COPIES.map(async address => {
    const bytes = await readFile(join(folder, `0001-internal-${address.toString(16).padStart(8, '0')}.bin`));
    const sealed = APP_SECTION + VERSION_BLOCK + 12;
    if (bytes.length !== 0x4000 || bytes.readUInt32LE(sealed) !== crc32(bytes.subarray(0, sealed))) {
      throw new Error(`the copy at ${address.toString(16)} is not whole`);
    }
    return { bytes, sequence: bytes.readUInt32LE(sealed - 8) };
  });
  return (await Promise.all(copies)).sort((a, b) => a.sequence - b.sequence).map(({ bytes }) => bytes);
}

function claimCodeIn(copy: Buffer, length: number): string {
  return copy.toString('latin1', APP_SECTION + 1762, APP_SECTION + 1762 + length);
}

describe('the state folder of a rack', () => {
  test('is made 0700, its files 0600', async () => {
    const inside = join(folder, 'state');
    const rack = await rackIn(inside);
    await new Host(rack.devices[0]!.photon).select(1);
    await rack.close();
    expect((await stat(inside)).mode & 0o777).toBe(0o700);
    const names = await readdir(inside);
    expect(names).toContain('rack.json');
    for (const name of names) expect((await stat(join(inside, name))).mode & 0o777).toBe(0o600);
  });

  test('gives a second rack the same devices with all that was written to them, in DFU mode', async () => {
    const first = await rackIn(folder, { keys: 'made', bootloader: 'old' });
    const host = new Host(first.devices[1]!.photon);
    expect(await host.write(0x080a0000, Buffer.from('user'))).toBe('4/0');
    await host.select(1);
    const key = await host.read(34, 1216);
    await host.write(1762, Buffer.from('claim'));
    await first.close();

    const second = await rackIn(folder, { count: 3, platform: 'p1' });
    expect(second.devices.map(({ busId, onBus, photon }) => [busId, onBus, photon.identity.release])).toEqual([
      ['1-1.1', true, 0x0200],
      ['1-1.2', true, 0x0200],
      ['1-1.3', true, 0x0250],
    ]);
    expect(second.devices.map(({ deviceId }) => deviceId).slice(0, 2)).toEqual(
      first.devices.map(({ deviceId }) => deviceId),
    );
    const again = new Host(second.devices[1]!.photon);
    expect((await again.read(0x080a0000, 4)).toString()).toBe('user');
    await again.select(1);
    expect((await again.read(34, 1216)).equals(key)).toBe(true);
    expect((await again.read(1762, 5)).toString()).toBe('claim');
    await second.close();
  });

  test('keeps a bootloader that a fault made old, and the flash as it is where a fault is about its making', async () => {
    const first = await rackIn(folder, { faults: [parseFault('#1:old-bootloader')] });
    const host = new Host(first.devices[0]!.photon);
    await host.select(1);
    await host.write(34, Buffer.from('key'));
    await first.close();
    const second = await rackIn(folder, { faults: [parseFault('#1:zero-key')] });
    expect(second.devices[0]!.photon.identity.serial).toBe('00000000010C');
    const again = new Host(second.devices[0]!.photon);
    await again.select(1);
    expect((await again.read(34, 3)).toString()).toBe('key');
    await second.close();
  });

  test('that holds anything else is refused', async () => {
    await writeFile(join(folder, 'thesis.txt'), 'mine');
    await expect(rackIn(folder)).rejects.toMatchObject({
      code: 'SIM_STATE_INVALID',
      message: expect.stringContaining('`thesis.txt`') as string,
    });
  });

  test.each(['not json', '{}', '{"format":"photon-fleet sim rack","version":1,"devices":[{"index":1}]}'])(
    'with the list `%s` is refused',
    async text => {
      await writeFile(join(folder, 'rack.json'), text);
      await expect(rackIn(folder)).rejects.toMatchObject({ code: 'SIM_STATE_INVALID' });
    },
  );

  test('that is a file is refused', async () => {
    await writeFile(join(folder, 'file'), '');
    await expect(rackIn(join(folder, 'file'))).rejects.toMatchObject({ code: 'SIM_STATE_INVALID' });
  });

  test('with a sector of the wrong size is refused', async () => {
    await (await rackIn(folder)).close();
    await truncate(join(folder, '0001-internal-08004000.bin'), 100);
    await expect(rackIn(folder)).rejects.toMatchObject({ code: 'SIM_STATE_INVALID' });
  });

  test('is cleared of what a killed process left half-made', async () => {
    await (await rackIn(folder)).close();
    await writeFile(join(folder, '0001-internal-08004000.bin.7.tmp'), 'half');
    await writeFile(join(folder, '0009-internal-08004000.bin'), 'a device that never came to be');
    await (await rackIn(folder)).close();
    expect((await readdir(folder)).filter(name => /tmp|^0009/.test(name))).toEqual([]);
  });

  test.each([
    ['old', 'before'],
    ['new', 'behind'],
  ])('holds the %s copy whole after power-cut:%s', async (copy, claim) => {
    const first = await rackIn(folder, { count: 1, faults: [parseFault(`#1:power-cut:${copy}:2`)] });
    const host = new Host(first.devices[0]!.photon);
    await host.select(1);
    await host.write(1762, Buffer.from('before'));
    expect(await host.write(1762, Buffer.from('behind'))).toBe('gone');
    expect(claimCodeIn((await copiesOnDisk())[1]!, 6)).toBe(claim);
    await first.close();
    const second = await rackIn(folder, { count: 1 });
    const again = new Host(second.devices[0]!.photon);
    await again.select(1);
    expect((await again.read(1762, 6)).toString()).toBe(claim);
    await second.close();
  });

  test('that can no longer be written makes a write fail, as a bad flash does', async () => {
    const rack = await rackIn(folder);
    const { photon } = rack.devices[0]!;
    const host = new Host(photon);
    await host.select(1);
    await rm(folder, { recursive: true });
    expect(await host.write(1762, Buffer.from('x'))).toBe('stall');
    expect(photon.record.violations).toEqual([expect.stringContaining('could not be kept')]);
    expect((await host.read(1762, 1))[0]).toBe(0xff);
    await rack.close();
  });
});

describe('a rack that is killed with SIGKILL', () => {
  const children: ChildProcess[] = [];
  const buses: UsbBus[] = [];
  afterEach(async () => {
    for (const bus of buses.splice(0)) await bus.close();
    for (const child of children.splice(0)) await kill(child);
  });

  async function kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  /** A rack of one device in a process of its own, opened at alternate setting 1. */
  async function start(writeMs: number): Promise<{ child: ChildProcess; port: UsbPort }> {
    const program = `
      import { createRack } from '#src/sim/virtual-rack.ts';
      import { serveRack } from '#src/sim/usbip-server.ts';
      const [stateDir, writeMs] = process.argv.slice(1);
      const rack = await createRack({ count: 1, hubs: 1, keys: 'blank', stateDir, writeMs: Number(writeMs) });
      console.log((await serveRack(rack, { host: '127.0.0.1', port: 0 })).port);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, folder, String(writeMs)], {
      cwd: new URL('../..', import.meta.url),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    const bus = rackBus({ host: '127.0.0.1', port: Number(line) });
    buses.push(bus);
    const [port] = await bus.list();
    await port!.open();
    await port!.claimInterface(0);
    await port!.selectAlternateInterface(0, 1);
    return { child, port: port! };
  }

  const out = async (port: UsbPort, request: number, value: number, data: Uint8Array) =>
    await port.controlTransferOut(dfu(request, value), data, 5000);
  const status = async (port: UsbPort) => await port.controlTransferIn(dfu(3), 6, 20_000);

  async function point(port: UsbPort): Promise<void> {
    await out(port, 1, 0, Uint8Array.of(0x21, 1762 & 0xff, 1762 >> 8, 0, 0));
    await status(port);
    await status(port);
  }

  async function write(port: UsbPort, text: string): Promise<void> {
    await out(port, 1, 2, Buffer.from(text));
    await status(port);
    await status(port);
  }

  async function claimCode(port: UsbPort): Promise<string> {
    await out(port, 6, 0, new Uint8Array(0));
    const result = await port.controlTransferIn(dfu(2, 2), 8, 5000);
    await out(port, 6, 0, new Uint8Array(0));
    return result.status === 'ok' ? Buffer.from(result.data).toString('latin1') : 'stall';
  }

  test('has every block that was reported as written', async () => {
    const first = await start(0);
    await point(first.port);
    for (let n = 100; n < 120; n += 1) await write(first.port, `block${n}`);
    await kill(first.child);
    const second = await start(0);
    await point(second.port);
    expect(await claimCode(second.port)).toBe('block119');
  });

  test('in the midst of a write has the old bytes or the new ones, never a mixture', async () => {
    const first = await start(0);
    await point(first.port);
    await write(first.port, 'before..');
    let written = 'before..';
    const writing = (async () => {
      for (let n = 100; n < 1000; n += 1) {
        await write(first.port, `block${n}`);
        written = `block${n}`;
        if (n === 110) void kill(first.child);
      }
    })();
    await expect(writing).rejects.toMatchObject({ code: 'USB_GONE' });
    const second = await start(0);
    await point(second.port);
    const after = await claimCode(second.port);
    expect([written, `block${Number(written.slice(5)) + 1}`]).toContain(after);
    await write(second.port, 'go on...');
    expect(await claimCode(second.port)).toBe('go on...');
  });

  test.each([0, 1, 2, 4, 7, 11])(
    'has both copies of the DCT whole on disk, killed %i turns after a block was sent',
    async turns => {
      const { child, port } = await start(0);
      await point(port);
      await write(port, 'before..');
      await out(port, 1, 2, Buffer.from('behind..'));
      const end = status(port).catch((thrown: unknown) => {
        expect(thrown).toMatchObject({ code: 'USB_GONE' });
      });
      for (let n = 0; n < turns; n += 1) await new Promise<void>(resolve => setImmediate(resolve));
      await kill(child);
      await end;
      const [older, newer] = (await copiesOnDisk()).map(copy => claimCodeIn(copy, 8));
      expect([
        ['\xff'.repeat(8), 'before..'],
        ['before..', 'behind..'],
      ]).toContainEqual([older, newer]);
    },
  );

  test('while the flash is busy has the old bytes', async () => {
    const first = await start(60_000);
    await point(first.port);
    await out(first.port, 1, 2, Buffer.from('too late'));
    const busy = expect(status(first.port)).rejects.toMatchObject({ code: 'USB_GONE' });
    await kill(first.child);
    await busy;
    const second = await start(0);
    await point(second.port);
    expect(await claimCode(second.port)).toBe('\xff'.repeat(8));
  });
});
