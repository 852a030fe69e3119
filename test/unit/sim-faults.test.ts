import { afterEach, describe, expect, test } from 'vitest';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import type { DescriptorFlaw } from '#src/sim/photon-descriptors.ts';
import type { PhotonSpec } from '#src/sim/photon-spec.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import { serveRack } from '#src/sim/usbip-server.ts';
import type { RackEvent } from '#src/sim/usbip-session.ts';
import { createRack, type VirtualRack } from '#src/sim/virtual-rack.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { bench, hostOver, ManualClock, standard, until, type Host } from './sim-bench.ts';

const CLAIM_CODE = 1762;
const NEW = Buffer.from('new-claim');
const NONE = new Uint8Array(0);

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Struck {
  readonly rack: VirtualRack;
  readonly bus: UsbBus;
  readonly clock: ManualClock;
  readonly events: RackEvent[];
}

type Over = 'the sim bus' | 'USB/IP';

/** A rack of one device, `1-1.1`, with faults, on a bus, in a time that stands still. */
async function struck(over: Over, ...faults: string[]): Promise<Struck> {
  const clock = new ManualClock();
  const events: RackEvent[] = [];
  const rack = await createRack({
    count: 1,
    hubs: 1,
    writeMs: 0,
    keys: 'blank',
    clock,
    faults: faults.map(parseFault),
  });
  closing.push(() => rack.close());
  if (over === 'the sim bus') {
    const bus = simBus(rack);
    closing.push(() => bus.close());
    return { rack, bus, clock, events };
  }
  const server = await serveRack(rack, { host: '127.0.0.1', port: 0, onEvent: event => events.push(event) });
  const bus = rackBus({ ...server, clock });
  closing.push(
    () => server.close(),
    () => bus.close(),
  );
  return { rack, bus, clock, events };
}

async function onlyPort({ bus }: Struck): Promise<UsbPort> {
  const [port, ...more] = await bus.list();
  expect(more).toEqual([]);
  return port!;
}

async function opened(port: UsbPort): Promise<Host> {
  await port.open();
  await port.claimInterface(0);
  return hostOver(port);
}

/** The device, open, and a host that speaks to it. */
async function connected(made: Struck): Promise<{ port: UsbPort; host: Host }> {
  const port = await onlyPort(made);
  return { port, host: await opened(port) };
}

/** One transfer, and the time until its host gives up. */
async function expectSilence({ clock }: Struck, transfer: Promise<unknown>): Promise<void> {
  const silent = expect(transfer).rejects.toMatchObject({ code: 'USB_TIMEOUT' });
  await until(() => clock.sleeping > 0);
  await clock.advance(5000);
  await silent;
}

/** A block on its way into the claim code, up to the GETSTATUS that writes it. */
async function readyToWrite(host: Host, data = NEW): Promise<void> {
  await host.select(1);
  await host.point(CLAIM_CODE);
  await host.download(2, data);
}

async function claimCode(host: Host): Promise<string> {
  await host.select(1);
  return (await host.read(CLAIM_CODE, NEW.length)).toString('latin1');
}

const OLD = '\xff'.repeat(NEW.length);
const deviceDescriptor = (host: Host) => host.in(standard(6, 0x100), 18);

describe.each(['the sim bus', 'USB/IP'] as const)('over %s', over => {
  test('hang-until-reset answers nothing at all from the nth such request on, until the port is reset', async () => {
    const made = await struck(over, '#1:hang-until-reset:getstatus:2');
    const device = made.rack.device('1-1.1');
    const number = device.appearance;
    const { port, host } = await connected(made);
    expect(await host.status()).toBe('2/0');
    await expectSilence(made, host.status());
    await expectSilence(made, host.state());
    await expectSilence(made, deviceDescriptor(host));
    const pending = expect(host.status()).rejects.toMatchObject({ code: 'USB_GONE' });
    await port.reset();
    await pending;
    expect([port.opened, device.onBus, device.appearance]).toEqual([false, true, number]);
    const again = await opened(port);
    expect([await again.status(), await again.status(), await again.status()]).toEqual(['2/0', '2/0', '2/0']);
  });

  test('hang-until-reset in a write carries it out neither then nor later', async () => {
    const made = await struck(over, '#1:hang-until-reset:write');
    const { port, host } = await connected(made);
    await readyToWrite(host);
    await expectSilence(made, host.status());
    await expectSilence(made, host.abort());
    await port.reset();
    const again = await opened(port);
    expect(await claimCode(again)).toBe(OLD);
    expect(await again.write(CLAIM_CODE, NEW)).toBe('4/0 poll 1');
    expect(await claimCode(again)).toBe(NEW.toString());
  });

  test('a hung device that is replugged is an ordinary one again', async () => {
    const made = await struck(over, '#1:hang-until-reset:abort');
    const { host } = await connected(made);
    await expectSilence(made, host.abort());
    made.rack.unplug('1-1.1');
    await expect(host.status()).rejects.toMatchObject({ code: 'USB_GONE' });
    made.rack.plug('1-1.1');
    const { host: again } = await connected(made);
    expect([await again.abort(), await again.status()]).toEqual(['ok', '2/0']);
  });

  test('bounce takes the device off the bus, and it comes back at its path with another number', async () => {
    const made = await struck(over, '#1:bounce:getstatus:2:300');
    const { port, host } = await connected(made);
    expect(await host.status()).toBe('2/0');
    await expect(host.status()).rejects.toMatchObject({ code: 'USB_GONE' });
    await port.close();
    await made.clock.advance(299);
    expect(await made.bus.list()).toEqual([]);
    await made.clock.advance(1);
    const back = await onlyPort(made);
    expect(back.path).toBe(port.path);
    expect(back.instance).not.toBe(port.instance);
    const again = await opened(back);
    expect([await again.status(), await again.status(), await again.status()]).toEqual(['2/0', '2/0', '2/0']);
    await expect(host.status()).rejects.toMatchObject({ code: expect.stringMatching(/^USB_(GONE|IO)$/) as string });
  });

  test('bounce inside a write leaves the old copy, for 500 ms', async () => {
    const made = await struck(over, '#1:bounce:write');
    const { host } = await connected(made);
    await readyToWrite(host);
    await expect(host.status()).rejects.toMatchObject({ code: 'USB_GONE' });
    await made.clock.advance(499);
    expect(await made.bus.list()).toEqual([]);
    await made.clock.advance(1);
    const { host: again } = await connected(made);
    expect(await again.status()).toBe('2/0');
    expect(await claimCode(again)).toBe(OLD);
  });

  test.each([
    ['old', OLD],
    ['new', NEW.toString()],
  ])('power-cut:%s keeps that copy whole, and the device boots into firmware', async (copy, claim) => {
    const made = await struck(over, `#1:power-cut:${copy}:2`);
    const { host } = await connected(made);
    const before = await readWhole(host);
    await host.write(CLAIM_CODE, before.subarray(CLAIM_CODE, CLAIM_CODE + NEW.length));
    await readyToWrite(host);
    await expect(host.status()).rejects.toMatchObject({ code: 'USB_GONE' });
    const device = made.rack.device('1-1.1');
    expect(device).toMatchObject({ onBus: false, plugged: true, mode: 'normal' });
    expect(await made.bus.list()).toEqual([]);
    made.rack.enterDfu('1-1.1');
    const { host: again } = await connected(made);
    expect(await again.status()).toBe('2/0');
    const after = await readWhole(again);
    before.write(claim, CLAIM_CODE, 'latin1');
    expect(after.subarray(34).equals(before.subarray(34))).toBe(true);
    expect(device.photon.dctRewrites).toBe(copy === 'old' ? 1 : 2);
  });

  test('stuck-busy says dfuDNBUSY after the write, whatever is asked, until the port is reset', async () => {
    const made = await struck(over, '#1:stuck-busy');
    const { port, host } = await connected(made);
    await readyToWrite(host);
    expect([await host.status(), await host.status(), await host.state()]).toEqual(['4/0 poll 1', '4/0 poll 1', 4]);
    expect([await host.download(2, NEW), await host.upload(2, 4)]).toEqual(['stall', 'stall']);
    expect([await host.abort(), await host.clearStatus(), await host.clearStatus()]).toEqual(['ok', 'ok', 'ok']);
    expect([await host.status(), await host.select(0)]).toEqual(['4/0 poll 1', 'ok']);
    expect(await deviceDescriptor(host)).toMatchObject({ kind: 'ok', data: { length: 18 } });
    await port.reset();
    const again = await opened(port);
    expect(await again.status()).toMatch(/^2\/0/);
    expect(await claimCode(again)).toBe(NEW.toString());
    expect([await again.write(CLAIM_CODE, NEW), await again.status()]).toEqual(['4/0 poll 1', '2/0 poll 1']);
  });

  test('stuck-busy:2 lets the first write pass', async () => {
    const { host } = await connected(await struck(over, '#1:stuck-busy:2'));
    await host.select(1);
    await host.write(CLAIM_CODE, NEW);
    expect(await host.status()).toBe('2/0 poll 1');
    await host.write(CLAIM_CODE, NEW);
    expect(await host.status()).toBe('4/0 poll 1');
  });

  test('a serial that is no UTF-16 is none', async () => {
    const made = await struck(over, '#1:descriptor:utf16');
    const device = await DfuDevice.open(await onlyPort(made), made.clock);
    expect(device.descriptors.serialNumber).toBeNull();
    await device.close();
  });

  test.each([
    ['truncated', 'DESCRIPTOR_INVALID'],
    ['lying', 'DESCRIPTOR_INVALID'],
    ['no-functional', 'DESCRIPTOR_INVALID'],
    ['transfer-size', 'DEVICE_UNEXPECTED'],
  ])('a device with descriptor:%s is refused as %s', async (flaw, code) => {
    const made = await struck(over, `#1:descriptor:${flaw}`);
    await expect(DfuDevice.open(await onlyPort(made), made.clock)).rejects.toMatchObject({ code });
  });

  test('other-product is met with names that are no Photon’s', async () => {
    const made = await struck(over, '#1:other-product');
    const device = await DfuDevice.open(await onlyPort(made), made.clock);
    expect(device.descriptors).toMatchObject({
      vendorId: 0x2b04,
      productId: 0xd006,
      serialNumber: made.rack.devices[0]!.deviceId.toUpperCase(),
      alternates: [
        { number: 0, name: '@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg' },
        { number: 1, name: '@Option Bytes  /0x1FFFC000/01*016 e' },
      ],
    });
  });
});

/** All that may be read of the DCT. */
async function readWhole(host: Host): Promise<Buffer> {
  await host.select(1);
  return await host.read(0, 8820);
}

describe('a device that bounces', () => {
  async function bounced(): Promise<Struck> {
    const made = await struck('the sim bus', '#1:bounce:abort:1:300');
    await expect((await connected(made)).host.abort()).rejects.toMatchObject({ code: 'USB_GONE' });
    return made;
  }

  test('stays away once somebody has pulled its cable', async () => {
    const { rack, clock } = await bounced();
    rack.unplug('1-1.1');
    await clock.advance(300);
    expect([rack.device('1-1.1').onBus, clock.sleeping]).toEqual([false, 0]);
  });

  test('comes back once where somebody plugs it in before its time', async () => {
    const { rack, clock } = await bounced();
    rack.plug('1-1.1');
    const number = rack.device('1-1.1').appearance;
    await clock.advance(300);
    expect([rack.device('1-1.1').appearance, clock.sleeping]).toEqual([number, 0]);
  });

  test('does not keep a rack that is closed', async () => {
    const { rack, clock } = await bounced();
    await rack.close();
    expect(clock.sleeping).toBe(0);
    await clock.advance(300);
    expect(rack.device('1-1.1').onBus).toBe(false);
  });
});

describe('late-access', () => {
  test('lets nobody open the device for that time after the first try, each time it appears', async () => {
    const made = await struck('the sim bus', '#1:late-access:1500');
    const { rack, clock } = made;
    const port = await onlyPort(made);
    await clock.advance(10_000);
    await expect(port.open()).rejects.toMatchObject({ code: 'USB_ACCESS', facts: { path: '1-1.1' } });
    await clock.advance(1499);
    await expect(port.open()).rejects.toMatchObject({ code: 'USB_ACCESS' });
    expect(port.opened).toBe(false);
    await clock.advance(1);
    expect(await (await opened(port)).status()).toBe('2/0');
    await port.close();
    await port.open();
    rack.unplug('1-1.1');
    rack.plug('1-1.1');
    await expect((await onlyPort(made)).open()).rejects.toMatchObject({ code: 'USB_ACCESS' });
  });

  test('is an import refused as busy over USB/IP', async () => {
    const made = await struck('USB/IP', '#1:late-access:300');
    const port = await onlyPort(made);
    const { clock, events } = made;
    const pauses: number[] = [];
    const sleep = clock.sleep.bind(clock);
    clock.sleep = (ms, signal) => {
      if (ms === 100) pauses.push(ms); // a client's between two tries
      return sleep(ms, signal);
    };
    const opening = port.open();
    for (let tries = 1; tries <= 3; tries += 1) {
      await until(() => pauses.length === tries);
      await clock.advance(100);
    }
    await opening;
    const refused = { type: 'refused', busId: '1-1.1', status: 2 };
    expect(events.filter(({ type }) => type !== 'listed')).toMatchObject([
      refused,
      refused,
      refused,
      { type: 'imported' },
    ]);
  });
});

describe('descriptors', () => {
  async function hexOf(value: number, spec: Partial<PhotonSpec>): Promise<string> {
    const { host } = await bench(spec);
    const reply = await host.in(standard(6, value, value >> 8 === 3 ? 0x0409 : 0), 255);
    return reply.kind === 'ok' ? Buffer.from(reply.data).toString('hex') : reply.kind;
  }
  const configuration = (flaw: DescriptorFlaw) => hexOf(0x200, { descriptorFlaws: [flaw] });

  test('truncated: the configuration ends in the midst of an alternate setting, and says that it is whole', async () => {
    expect(await configuration('truncated')).toMatchInlineSnapshot(`"09022400010102c0320904000000fe0102060904000100"`);
  });

  test('lying: wTotalLength and the last bLength are more than what follows', async () => {
    expect(await configuration('lying')).toMatchInlineSnapshot(
      `"0902ffff010102c0320904000000fe0102060904000100fe010207ff210bff0000101a01"`,
    );
  });

  test('no-functional: the configuration is in order but for the missing one, which is not to be had alone either', async () => {
    expect(await configuration('no-functional')).toMatchInlineSnapshot(
      `"09021b00010102c0320904000000fe0102060904000100fe010207"`,
    );
    expect(await hexOf(0x2100, { descriptorFlaws: ['no-functional'] })).toBe('stall');
  });

  test('transfer-size: 2048, and all else as it is', async () => {
    expect(await configuration('transfer-size')).toMatchInlineSnapshot(
      `"09022400010102c0320904000000fe0102060904000100fe01020709210bff0000081a01"`,
    );
    expect(await hexOf(0x2100, { descriptorFlaws: ['transfer-size'] })).toBe('09210bff0000081a01');
  });

  test('utf16: a serial of odd length, and a name that ends in half a pair of surrogates', async () => {
    const serial = Buffer.from(await hexOf(0x303, { descriptorFlaws: ['utf16'] }), 'hex');
    expect([serial[0], serial.length, serial.toString('utf16le', 2, 50)]).toEqual([51, 51, '0123456789ABCDEF01234567']);
    const name = Buffer.from(await hexOf(0x306, { descriptorFlaws: ['utf16'] }), 'hex');
    expect([name[0], name.readUInt16LE(name.length - 2)]).toEqual([name.length, 0xd83d]);
  });

  test('of two kinds go together', async () => {
    const faults = ['#1:descriptor:no-functional', '#1:descriptor:truncated'].map(parseFault);
    const rack = await createRack({ count: 1, hubs: 1, writeMs: 0, keys: 'blank', faults });
    expect(rack.devices[0]!.photon.identity.flaws).toEqual(['no-functional', 'truncated']);
    await rack.close();
  });
});

describe('other-product', () => {
  test('has two alternate settings, a P1 too, and strings of its own', async () => {
    const { host } = await bench({ product: 'other', platform: 'p1' });
    expect([await host.select(1), await host.select(2)]).toEqual(['ok', 'stall']);
    const reply = await host.in(standard(6, 0x301, 0x0409), 255);
    expect(reply.kind === 'ok' && Buffer.from(reply.data).toString('utf16le', 2)).toBe('STMicroelectronics');
  });

  test('has no DCT: option bytes where a Photon has it, and nothing of a Photon in flash', async () => {
    const { host, photon } = await bench({ product: 'other' });
    const flash = await host.read(0x08000000, 0x10000);
    expect(flash.every(byte => byte === 0xff)).toBe(true);
    await host.select(1);
    expect((await host.read(34, 8)).equals(Buffer.alloc(8))).toBe(true);
    expect(await host.write(34, NEW)).toBe('stall');
    expect((await host.read(0x1fffc000, 16)).equals(Buffer.alloc(16, 0xff))).toBe(true);
    expect([photon.dctRewrites, photon.record.violations]).toEqual([0, []]);
    expect(await host.out(standard(9, 1), NONE)).toMatchObject({ kind: 'ok' });
  });
});
