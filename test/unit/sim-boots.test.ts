import { afterEach, describe, expect, test } from 'vitest';
import type { WayIntoDfu } from '#src/sim/photon-normal.ts';
import { factoryImage, SYSTEM_PART_1, SYSTEM_PART_2 } from '#src/sim/photon-modules.ts';
import type { Reply } from '#src/sim/photon-request.ts';
import type { RackDevice } from '#src/sim/rack-device.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import { serveRack } from '#src/sim/usbip-server.ts';
import { createRack, type RackOptions, type VirtualRack } from '#src/sim/virtual-rack.ts';
import type { ControlSetup, UsbPort } from '#src/usb/port.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { decodeStringDescriptor } from '#src/usb/usb-descriptors.ts';
import { tempFolder } from '../support/temp-folder.ts';
import { Host, hostOver, ManualClock, standard, until } from './sim-bench.ts';

const racks: VirtualRack[] = [];
afterEach(async () => {
  for (const rack of racks.splice(0)) await rack.close();
});

interface Bench {
  readonly rack: VirtualRack;
  readonly clock: ManualClock;
  /** The first device, and a host for it. */
  readonly device: RackDevice;
  readonly host: Host;
}

async function bench(options: Partial<RackOptions> = {}, ...faults: string[]): Promise<Bench> {
  const clock = new ManualClock();
  const rack = await createRack({
    count: 1,
    hubs: 1,
    writeMs: 0,
    keys: 'blank',
    boots: true,
    clock,
    faults: faults.map(parseFault),
    ...options,
  });
  racks.push(rack);
  const device = rack.devices[0]!;
  return { rack, clock, device, host: new Host(device.photon) };
}

/** Leaves DFU mode: afterwards the device is off the bus. */
async function leave({ clock, host, device }: Bench): Promise<void> {
  await host.download(0, new Uint8Array(0));
  await host.status();
  await clock.advance(500);
  expect(device.onBus).toBe(false);
}

async function booted(options: Partial<RackOptions> = {}, ...faults: string[]): Promise<Bench> {
  const made = await bench(options, ...faults);
  await leave(made);
  await made.clock.advance(300);
  expect(made.device).toMatchObject({ mode: 'normal', onBus: true });
  return made;
}

const vendor = (request: number, index: number, value = 0): ControlSetup => ({
  requestType: 'vendor',
  recipient: 'device',
  request,
  value,
  index,
});
const NOTHING = new Uint8Array(0);
const askVendor = async (host: Host): Promise<Reply['kind']> => (await host.out(vendor(0x50, 50), NOTHING)).kind;
const [INIT, CHECK, SEND, RECEIVE, RESET] = [1, 2, 3, 4, 5];

/** A service reply in words: `ok id 1`, `pending`, `ok result 0`; or how else the transfer ended. */
async function service(host: Host, request: number, index: number, value = 0): Promise<string> {
  const reply = await host.in(vendor(request, index, value), 64);
  if (reply.kind !== 'ok') return reply.kind;
  const bytes = Buffer.from(reply.data);
  const flags = bytes.readUInt32LE(0);
  let text = ['ok', 'error', 'pending', 'busy', 'no memory', 'not found'][bytes.readUInt16LE(4)]!;
  let at = 6;
  if ((flags & 2) !== 0) {
    text += ` id ${bytes.readUInt16LE(at)}`;
    at += 2;
  }
  if ((flags & 8) !== 0) {
    text += ` result ${bytes.readInt32LE(at)}`;
    at += 4;
  }
  expect([flags & ~0xb, flags & 1, bytes.length]).toEqual([0, 1, at]);
  return text;
}

/** Its ID, in the letters in which it is told. */
async function descriptorsOf(host: Host): Promise<Record<string, unknown>> {
  const get = async (value: number, index = 0): Promise<Buffer> => {
    const reply = await host.in(standard(6, value, index), 255);
    return Buffer.from(reply.kind === 'ok' ? reply.data : NOTHING);
  };
  const [device, configuration] = [await get(0x100), await get(0x200)];
  const text = async (index: number) => (await get(0x300 + index, 0x409)).subarray(2).toString('utf16le');
  return {
    productId: device.readUInt16LE(10),
    release: device.readUInt16LE(12),
    product: await text(device[15]!),
    serial: await text(device[16]!),
    configurationBytes: [configuration.readUInt16LE(2), configuration.length],
    interfaces: configuration[4],
    interfaceKind: [...configuration.subarray(14, 17)],
  };
}

describe('a device that leaves DFU mode', () => {
  test('stays off the bus where devices do not boot', async () => {
    const made = await bench({ boots: false });
    await leave(made);
    await made.clock.advance(60_000);
    expect(made.device).toMatchObject({ mode: 'normal', onBus: false, plugged: true });
    expect(made.clock.sleeping).toBe(0);
  });

  test('is off the bus while it boots, and then on it in normal mode, with a new number', async () => {
    const made = await bench();
    const { device, clock, rack } = made;
    const first = device.appearance;
    let changes = 0;
    rack.onChange(() => (changes += 1));
    await leave(made);
    await clock.advance(299);
    expect(device).toMatchObject({ mode: 'booting', onBus: false, plugged: true });
    await clock.advance(1);
    expect(device).toMatchObject({ mode: 'normal', onBus: true, plugged: true });
    expect(device.photon.onBus).toBe(true);
    expect(device.appearance).not.toBe(first);
    expect(changes).toBe(2);
  });

  test('has its own descriptors in normal mode, and tells its ID whatever its bootloader says', async () => {
    for (const fault of ['#1:old-bootloader', '#1:no-serial', '#1:descriptor:truncated']) {
      const { host, device } = await booted({}, fault);
      expect(await descriptorsOf(host)).toEqual({
        productId: 0xc006,
        release: 0x0250,
        product: 'Photon',
        serial: device.deviceId.toUpperCase(),
        configurationBytes: [18, 18],
        interfaces: 1,
        interfaceKind: [0xff, 0xff, 0xff],
      });
    }
  });

  test('says what it is by its product ID', async () => {
    for (const [platform, productId] of [
      ['p1', 0xc008],
      ['electron', 0xc00a],
    ] as const) {
      const { host } = await booted({ platform });
      expect((await descriptorsOf(host))['productId']).toBe(productId);
    }
  });

  test('answers standard requests in normal mode, and stalls those of DFU', async () => {
    const { host, device } = await booted({}, '#1:hang:getstate');
    expect(await host.in(standard(8), 1)).toMatchObject({ data: Uint8Array.of(1) });
    expect(await host.in(standard(0), 2)).toMatchObject({ data: Uint8Array.of(1, 0) });
    expect([await host.select(0), await host.select(1)]).toEqual(['ok', 'stall']);
    expect([await host.status(), await host.state(), await host.download(0, NOTHING)]).toEqual([
      'stall',
      'stall',
      'stall',
    ]);
    expect(device.photon.dfuState).toBe(0);
  });

  test('boots after a power cut too', async () => {
    const { host, device, clock } = await bench({}, '#1:power-cut:old');
    await host.select(1);
    await host.write(1762, Buffer.from('AAAA'));
    expect(device).toMatchObject({ mode: 'booting', onBus: false });
    await clock.advance(300);
    expect(device).toMatchObject({ mode: 'normal', onBus: true });
  });

  test('does not boot when its cable is pulled, and is in DFU mode when it is plugged in again', async () => {
    const made = await bench();
    await leave(made);
    made.rack.unplug('1-1.1');
    await made.clock.advance(60_000);
    expect(made.device).toMatchObject({ onBus: false, plugged: false });
    made.rack.plug('1-1.1');
    expect(made.device).toMatchObject({ mode: 'dfu', onBus: true });
    expect(await made.host.status()).toBe('2/0');
  });

  test('without whole system parts a new bootloader is back in DFU mode, and an old one is dead', async () => {
    const made = await bench({}, '#1:dct-zeros');
    const first = made.device.appearance;
    await leave(made);
    await made.clock.advance(300);
    expect(made.device).toMatchObject({ mode: 'dfu', onBus: true });
    expect(made.device.appearance).not.toBe(first);
    expect(await made.host.status()).toBe('2/0');

    const old = await bench({}, '#1:dct-zeros', '#1:old-bootloader');
    await leave(old);
    await old.clock.advance(60_000);
    expect(old.device).toMatchObject({ mode: 'dead', onBus: false, plugged: true });
    old.rack.enterDfu('1-1.1');
    expect(old.device).toMatchObject({ mode: 'dfu', onBus: true });
  });

  test('boots what was flashed: the way into DFU mode is that of the new system parts', async () => {
    const made = await bench({}, '#1:dct-zeros');
    for (const start of [SYSTEM_PART_1, SYSTEM_PART_2]) {
      const part = factoryImage('photon', 1403).get(start)!.subarray(0, 12_292);
      await made.host.erase(start);
      for (let at = 0; at < part.length; at += 4096) await made.host.write(start + at, part.subarray(at, at + 4096));
    }
    await leave(made);
    await made.clock.advance(300);
    expect(made.device.mode).toBe('normal');
    expect(await askVendor(made.host)).toBe('stall');
    expect(await service(made.host, INIT, 50)).toBe('ok id 1');
  });
});

describe('a device in normal mode', () => {
  test.each<[number, WayIntoDfu]>([
    [0, 'none'],
    [104, 'none'],
    [105, 'vendor'],
    [207, 'vendor'],
    [299, 'vendor'],
    [300, 'service'],
    [2301, 'service'],
  ])('with system version %i knows the way: %s', async (systemVersion, way) => {
    const { host } = await booted({ systemVersion });
    expect(await askVendor(host)).toBe(way === 'vendor' ? 'ok' : 'stall');
    expect(await service(host, INIT, 50)).toBe(way === 'service' ? 'ok id 1' : 'stall');
  });

  test('enters DFU mode by the vendor request: a second later it is off the bus, and then back', async () => {
    const { host, device, clock } = await booted();
    const { appearance } = device;
    expect([await askVendor(host), await askVendor(host)]).toEqual(['ok', 'ok']);
    await clock.advance(999);
    expect(device).toMatchObject({ mode: 'normal', onBus: true });
    expect(await host.in(standard(8), 1)).toMatchObject({ kind: 'ok' });
    await clock.advance(1);
    expect(device).toMatchObject({ mode: 'booting', onBus: false });
    expect((await host.in(standard(8), 1)).kind).toBe('gone');
    await clock.advance(300);
    expect(device).toMatchObject({ mode: 'dfu', onBus: true });
    expect(device.appearance).not.toBe(appearance);
    expect(await host.status()).toBe('2/0');
    expect(clock.sleeping).toBe(0);
    expect(await descriptorsOf(host)).toMatchObject({ productId: 0xd006, interfaceKind: [0xfe, 1, 2] });
  });

  test('does nothing for another vendor request', async () => {
    const { host, clock, device } = await booted();
    expect((await host.out(vendor(0x50, 51), NOTHING)).kind).toBe('stall');
    expect((await host.out(vendor(0x51, 50), NOTHING)).kind).toBe('stall');
    expect((await host.in(vendor(0x50, 50), 64)).kind).toBe('stall');
    await clock.advance(60_000);
    expect(device.mode).toBe('normal');
  });

  test('enters DFU mode by the service protocol, when the result has been taken', async () => {
    const { host, device, clock } = await booted({ systemVersion: 300 });
    expect(await service(host, INIT, 50)).toBe('ok id 1');
    expect(await service(host, CHECK, 1)).toBe('pending');
    await clock.advance(60_000);
    expect(device.mode).toBe('normal');
    expect(await service(host, CHECK, 1)).toBe('ok result 0');
    expect(await service(host, CHECK, 1)).toBe('not found');
    await clock.advance(999);
    expect(device.mode).toBe('normal');
    await clock.advance(1);
    await clock.advance(300);
    expect(device).toMatchObject({ mode: 'dfu', onBus: true });
  });

  test('does the service protocol as the firmware does: payloads, limits, requests it does not know', async () => {
    const { host, device, clock } = await booted({ systemVersion: 300 });
    expect(await service(host, CHECK, 9)).toBe('not found');
    // A payload of three bytes is awaited, and only that.
    expect(await service(host, INIT, 50, 3)).toBe('ok id 1');
    expect(await service(host, CHECK, 1)).toBe('ok');
    expect((await host.out(vendor(SEND, 1), new Uint8Array(2))).kind).toBe('stall');
    expect((await host.out(vendor(SEND, 1), new Uint8Array(3))).kind).toBe('ok');
    expect((await host.out(vendor(SEND, 1), new Uint8Array(3))).kind).toBe('stall');
    expect(await service(host, CHECK, 1)).toBe('pending');
    // Types that are not played, and more requests than it can hold.
    for (const id of [2, 3, 4]) expect(await service(host, INIT, 20)).toBe(`ok id ${id}`);
    expect(await service(host, INIT, 20)).toBe('busy');
    expect([await service(host, CHECK, 2), await service(host, CHECK, 2)]).toEqual(['pending', 'ok result -120']);
    expect(await service(host, RESET, 3)).toBe('ok');
    expect(await service(host, RESET, 3)).toBe('not found');
    expect(await service(host, RECEIVE, 4)).toBe('stall');
    expect((await host.in(vendor(INIT, 50), 63)).kind).toBe('stall');
    expect((await host.in(vendor(INIT, 50), 65)).kind).toBe('stall');
    await clock.advance(60_000);
    expect(device.mode).toBe('normal');
    // A request that is being handled is carried out, though nobody takes its result any more.
    expect(await service(host, RESET, 0)).toBe('ok');
    await clock.advance(1000);
    expect(device.mode).toBe('booting');
  });

  test('takes the times that the rack is given', async () => {
    const made = await bench({ bootMs: 20, resetMs: 50 });
    await leave(made);
    await made.clock.advance(20);
    expect(made.device.mode).toBe('normal');
    await askVendor(made.host);
    await made.clock.advance(50);
    expect(made.device.mode).toBe('booting');
    await made.clock.advance(20);
    expect(made.device.mode).toBe('dfu');
  });

  test('is brought into DFU mode by hand, at once, and boots no more by itself', async () => {
    const { rack, device, clock, host } = await booted();
    const { appearance } = device;
    await askVendor(host);
    rack.enterDfu('1-1.1');
    expect(device).toMatchObject({ mode: 'dfu', onBus: true });
    expect(device.appearance).not.toBe(appearance);
    const now = device.appearance;
    rack.enterDfu('1-1.1');
    await clock.advance(60_000);
    expect(device).toMatchObject({ mode: 'dfu', appearance: now });
  });

  test('is brought into DFU mode by hand while it boots, and stays there', async () => {
    const made = await bench();
    await leave(made);
    made.rack.enterDfu('1-1.1');
    const { appearance } = made.device;
    await made.clock.advance(60_000);
    expect(made.device).toMatchObject({ mode: 'dfu', onBus: true, appearance });
    expect(await made.host.status()).toBe('2/0');
  });

  test('keeps its system parts in the state folder, and is in DFU mode when the rack is made again', async () => {
    using folder = tempFolder();
    const stateDir = folder.file('state');
    const first = await booted({ stateDir, systemVersion: 1403 });
    await first.rack.close();
    racks.splice(racks.indexOf(first.rack), 1);
    const second = await bench({ stateDir });
    expect(second.device).toMatchObject({ mode: 'dfu', onBus: true });
    await leave(second);
    await second.clock.advance(300);
    expect(await service(second.host, INIT, 50)).toBe('ok id 1');
  });
});

describe('the faults of booting', () => {
  test('no-boot: it never comes back from DFU mode', async () => {
    const made = await bench({}, '#1:no-boot');
    await leave(made);
    await made.clock.advance(60_000);
    expect(made.device).toMatchObject({ mode: 'dead', onBus: false, plugged: true });
  });

  test('deaf: in normal mode it stalls every way into DFU mode, and answers the rest', async () => {
    for (const systemVersion of [207, 300]) {
      const { host, device, clock } = await booted({ systemVersion }, '#1:deaf');
      expect([await askVendor(host), await service(host, INIT, 50)]).toEqual(['stall', 'stall']);
      expect((await descriptorsOf(host))['productId']).toBe(0xc006);
      await clock.advance(60_000);
      expect(device.mode).toBe('normal');
    }
  });

  test('slow-boot: every boot takes that long', async () => {
    const made = await bench({}, '#1:slow-boot:5000');
    await leave(made);
    await made.clock.advance(4999);
    expect(made.device.mode).toBe('booting');
    await made.clock.advance(1);
    expect(made.device.mode).toBe('normal');
    await askVendor(made.host);
    await made.clock.advance(1000);
    await made.clock.advance(4999);
    expect(made.device.mode).toBe('booting');
    await made.clock.advance(1);
    expect(made.device.mode).toBe('dfu');
  });
});

describe('to a host', () => {
  /** Without the address of the rack. */
  const socketOf = (path: string): string => path.replace(/^.*\//, '');

  /** A bus of either kind, to the same rack. */
  const buses = {
    'in this process': (rack: VirtualRack) => Promise.resolve({ bus: simBus(rack), end: () => Promise.resolve() }),
    'over USB/IP': async (rack: VirtualRack) => {
      const server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
      return { bus: rackBus(server), end: () => server.close() };
    },
  };

  test.each(Object.keys(buses) as (keyof typeof buses)[])('%s a device goes into normal mode and back', async name => {
    const { rack, clock, device } = await bench({ count: 2 });
    const { bus, end } = await buses[name](rack);
    const there = async (): Promise<UsbPort> => (await bus.list()).find(({ path }) => socketOf(path) === '1-1.1')!;
    const taken = async (): Promise<{ port: UsbPort; host: Host }> => {
      const port = await there();
      await port.open();
      await port.claimInterface(0);
      return { port, host: hostOver(port) };
    };
    try {
      const inDfu = await taken();
      expect(inDfu.port).toMatchObject({ productId: 0xd006, release: 0x0250 });
      await inDfu.host.download(0, NOTHING);
      await inDfu.host.status();
      await clock.advance(500);
      await expect(inDfu.host.status()).rejects.toMatchObject({ code: 'USB_GONE' });
      await inDfu.port.close();
      expect((await bus.list()).map(({ path }) => socketOf(path))).toEqual(['1-1.2']);

      await clock.advance(300);
      const inNormal = await taken();
      expect(inNormal.port).toMatchObject({ productId: 0xc006, release: 0x0250 });
      const serial = await inNormal.port.controlTransferIn(standard(6, 0x303, 0x409), 255, 5000);
      const text = serial.status === 'ok' && decodeStringDescriptor(serial.data);
      expect(text).toBe(device.deviceId.toUpperCase());
      expect(inNormal.port.instance).not.toBe(inDfu.port.instance);
      expect((await bus.list()).map(({ path, productId }) => [socketOf(path), productId]).sort()).toEqual([
        ['1-1.1', 0xc006],
        ['1-1.2', 0xd006],
      ]);
      expect(await inNormal.host.status()).toBe('stall');
      expect(await askVendor(inNormal.host)).toBe('ok');
      await clock.advance(1000);
      await expect(inNormal.host.in(standard(8), 1)).rejects.toMatchObject({ code: 'USB_GONE' });
      await inNormal.port.close();
      expect(device.held).toBe(false);

      await clock.advance(300);
      const back = await taken();
      expect(back.port.productId).toBe(0xd006);
      expect(await back.host.status()).toBe('2/0');
      await back.port.close();
    } finally {
      await bus.close();
      await end();
    }
  });

  test('over USB/IP a device in normal mode that departs closes the connection of whoever holds it', async () => {
    const { rack, clock, device, host } = await booted();
    const server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
    const bus = rackBus(server);
    const [port] = await bus.list();
    await port!.open();
    let ended = false;
    bus.onChange(() => (ended = true));
    await askVendor(host);
    await clock.advance(1000);
    await clock.advance(300);
    // It is there again under another number, and the old connection is of no use.
    expect(device).toMatchObject({ mode: 'dfu', onBus: true });
    await until(() => ended);
    expect((await bus.list())[0]).toMatchObject({ productId: 0xd006 });
    await bus.close();
    await server.close();
  });
});
