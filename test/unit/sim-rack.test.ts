import { createHash } from 'node:crypto';
import { createPrivateKey } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { Fault } from '#src/core/errors.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { socketOf } from '#src/sim/rack-layout.ts';
import { createRack, type RackOptions, type VirtualRack } from '#src/sim/virtual-rack.ts';
import { AN_ID, Host, ManualClock } from './sim-bench.ts';

async function rackOf(options: Partial<RackOptions>): Promise<VirtualRack> {
  return await createRack({ count: 1, hubs: 1, writeMs: 0, keys: 'blank', ...options });
}

/** The first device of a rack with one fault, and a host for it. */
async function struck(fault: string, options: Partial<RackOptions> = {}) {
  const rack = await rackOf({ faults: [parseFault(fault)], ...options });
  const device = rack.devices[0]!;
  return { rack, device, photon: device.photon, host: new Host(device.photon) };
}

function faultOf(act: () => unknown): Fault {
  try {
    act();
  } catch (thrown) {
    if (thrown instanceof Fault) return thrown;
  }
  throw new Error('no Fault was thrown');
}

describe('a virtual rack', () => {
  test('spreads its devices evenly over the hubs', async () => {
    const rack = await rackOf({ count: 7, hubs: 3 });
    expect(rack.devices.map(({ busId }) => busId)).toEqual([
      '1-1.1',
      '1-2.1',
      '1-3.1',
      '1-1.2',
      '1-2.2',
      '1-3.2',
      '1-1.3',
    ]);
  });

  test('has seven hubs a bus', () => {
    expect([socketOf(6, 0), socketOf(7, 0), socketOf(15, 3)]).toEqual(['1-7.1', '2-1.1', '3-2.4']);
  });

  test('makes up IDs that are always the same, and takes those it is given', async () => {
    const rack = await rackOf({ count: 2, ids: [AN_ID] });
    const second = createHash('sha256').update('photon-fleet sim 2').digest('hex').slice(0, 24);
    expect(rack.devices.map(({ deviceId }) => deviceId)).toEqual([AN_ID, second]);
  });

  test('tells its listeners when devices come and go', async () => {
    const rack = await rackOf({ count: 2 });
    let changes = 0;
    const end = rack.onChange(() => (changes += 1));
    rack.unplug('1-1.1');
    expect(rack.devices.map(({ onBus }) => onBus)).toEqual([false, true]);
    rack.plug('1-1.1');
    await rack.add();
    expect(rack.devices.map(({ onBus, busId }) => [busId, onBus])).toEqual([
      ['1-1.1', true],
      ['1-1.2', true],
      ['1-1.3', true],
    ]);
    end();
    rack.unplug('1-1.2');
    expect(changes).toBe(3);
  });

  test('a device that has left is off the bus in normal mode, and enterDfu brings it back', async () => {
    const clock = new ManualClock();
    const rack = await rackOf({ clock });
    const device = rack.devices[0]!;
    const host = new Host(device.photon);
    const first = device.appearance;
    await host.download(0, new Uint8Array(0));
    await host.status();
    await clock.advance(500);
    expect(device).toMatchObject({ onBus: false, plugged: true, mode: 'normal' });
    rack.enterDfu('1-1.1');
    expect(device).toMatchObject({ onBus: true, mode: 'dfu' });
    expect(device.appearance).not.toBe(first);
    expect(await host.status()).toBe('2/0');
  });

  test('one host program holds a device at a time', async () => {
    const rack = await rackOf({});
    const device = rack.devices[0]!;
    const giveBack = device.hold();
    expect(device.hold()).toBeNull();
    giveBack?.();
    expect(device.hold()).not.toBeNull();
  });

  test('refuses a fault that names no device', async () => {
    await expect(rackOf({ faults: [parseFault('#2:no-serial')] })).rejects.toMatchObject({
      code: 'USAGE',
      message: 'fault `#2:no-serial` names no device of this rack',
    });
  });
});

describe('a fault is given as text', () => {
  test('and its device by index, ID, bus ID or star', async () => {
    const rack = await rackOf({
      count: 4,
      ids: [AN_ID],
      faults: [`${AN_ID.toUpperCase()}:serial:a:b`, '#2:no-serial', '1-1.3:old-bootloader'].map(parseFault),
    });
    expect(rack.devices.map(({ photon }) => photon.identity.serial)).toEqual([
      'a:b',
      null,
      '00000000010C',
      rack.devices[3]!.deviceId,
    ]);
    expect((await struck('*:no-serial')).photon.identity.serial).toBeNull();
  });

  test('a kind that does not exist is answered with those that do', () => {
    const fault = faultOf(() => parseFault('#1:explode'));
    expect(fault.message).toMatchInlineSnapshot(`"fault \`#1:explode\`: there is no kind \`explode\`"`);
    expect(fault.hint).toMatchInlineSnapshot(
      `"the kinds are old-bootloader, p1, no-dct-id, dct-zeros, other-product, descriptor:truncated|lying|no-functional|utf16|transfer-size, late-access:MS, write-stall[:N], write-drop[:N], write-flip[:N], read-unstable, stuck-busy[:N], power-cut:old|new[:N], hang:REQ[:N], hang-until-reset:REQ[:N], unplug:REQ[:N], bounce:REQ[:N[:MS]], start-state:N, serial:TEXT, no-serial, same-id:ID, blank-key, zero-key, pkcs8-key, truncated-key, misread-key, other-server-key, no-boot, deaf, slow-boot:MS, slow-leave; REQ being dnload|upload|getstatus|clrstatus|getstate|abort|descriptor|write"`,
    );
  });

  test('an argument that makes no sense is answered with how it is written', () => {
    const hintOf = (text: string) => faultOf(() => parseFault(text)).hint;
    expect(hintOf('#1:bounce:everything')).toMatchInlineSnapshot(
      `"it is written bounce:REQ[:N[:MS]]; REQ being dnload|upload|getstatus|clrstatus|getstate|abort|descriptor|write"`,
    );
    expect(hintOf('#1:power-cut:half')).toMatchInlineSnapshot(`"it is written power-cut:old|new[:N]"`);
  });

  test.each(['', 'no-serial', '#0:no-serial', 'x:no-serial', '1-2.3/4:no-serial'])('`%s` names no device', text => {
    expect(faultOf(() => parseFault(text)).code).toBe('USAGE');
  });

  test.each([
    '#1:write-stall:0',
    '#1:write-stall:x',
    '#1:hang',
    '#1:hang:everything',
    '#1:unplug:write:1:2',
    '#1:hang-until-reset',
    '#1:hang-until-reset:getstatus:0',
    '#1:bounce:2:300',
    '#1:bounce:write:300ms',
    '#1:bounce:write:0:300',
    '#1:bounce:write:1:300:1',
    '#1:power-cut',
    '#1:power-cut:half',
    '#1:power-cut:old:1:2',
    '#1:stuck-busy:0',
    '#1:descriptor',
    '#1:descriptor:funny',
    '#1:descriptor:lying:1',
    '#1:other-product:x',
    '#1:late-access',
    '#1:late-access:soon',
    '#1:no-boot:x',
    '#1:deaf:1',
    '#1:slow-boot',
    '#1:slow-boot:soon',
    '#1:start-state:300',
    '#1:same-id:123',
    '#1:no-serial:x',
    '#1:serial',
    '#1:constructor',
  ])('`%s` is refused', text => {
    expect(faultOf(() => parseFault(text))).toMatchObject({ code: 'USAGE' });
  });
});

describe('the faults', () => {
  async function writeAndRead(fault: string): Promise<{ said: string[]; read: string; rewrites: number }> {
    const { host, photon } = await struck(fault);
    await host.select(1);
    const said = [await host.write(1762, Buffer.from('AAAA')), await host.write(1762, Buffer.from('BBBB'))];
    return { said, read: (await host.read(1762, 4)).toString('latin1'), rewrites: photon.dctRewrites };
  }

  test('write-stall fails every write, or the nth', async () => {
    expect(await writeAndRead('#1:write-stall')).toMatchObject({ said: ['stall', 'stall'], rewrites: 0 });
    expect(await writeAndRead('#1:write-stall:1')).toMatchObject({ said: ['stall', '4/0 poll 1'], read: 'BBBB' });
  });

  test('write-drop loses the block and says that all is well', async () => {
    expect(await writeAndRead('#1:write-drop:2')).toEqual({
      said: ['4/0 poll 1', '4/0 poll 1'],
      read: 'AAAA',
      rewrites: 1,
    });
  });

  test('write-flip writes one bit wrong and says that all is well', async () => {
    expect(await writeAndRead('#1:write-flip:2')).toMatchObject({ said: ['4/0 poll 1', '4/0 poll 1'], read: 'BBRB' });
  });

  test('read-unstable differs in one bit on each second read of a byte, whichever region is read', async () => {
    const { host } = await struck('#1:read-unstable');
    await host.select(1);
    const reads = [await host.read(800, 100), (await host.read(700, 200)).subarray(100), await host.read(800, 100)];
    expect(reads[1]?.equals(reads[0]!)).toBe(false);
    expect(reads[2]?.equals(reads[0]!)).toBe(true);
  });

  test('unplug takes the device off the bus at the nth such request', async () => {
    const { host, device } = await struck('#1:unplug:getstatus:2');
    expect([await host.status(), await host.status()]).toEqual(['2/0', 'gone']);
    expect(device).toMatchObject({ plugged: false, onBus: false });
  });

  test('start-state begins in that state, until a replug', async () => {
    const { host, rack } = await struck('#1:start-state:10');
    expect(await host.status()).toBe('10/14');
    rack.unplug('1-1.1');
    rack.plug('1-1.1');
    expect(await host.status()).toBe('2/0');
  });

  test('same-id claims the ID of another device, in serial and DCT', async () => {
    const { host, photon } = await struck(`#1:same-id:${AN_ID}`);
    expect(photon.identity.serial).toBe(AN_ID.toUpperCase());
    await host.select(1);
    expect((await host.read(3618, 12)).toString('hex')).toBe(AN_ID);
  });

  test('slow-leave takes its time to vanish', async () => {
    const clock = new ManualClock();
    const { host, device } = await struck('#1:slow-leave', { clock });
    await host.download(0, new Uint8Array(0));
    await host.status();
    await clock.advance(2999);
    expect(device.onBus).toBe(true);
    await clock.advance(1);
    expect(device.onBus).toBe(false);
  });

  test('no-dct-id and dct-zeros say what they do', async () => {
    const blank = await struck('#1:no-dct-id');
    await blank.host.select(1);
    expect((await blank.host.read(3618, 2)).toString('hex')).toBe('ffff');
    const broken = await struck('#1:dct-zeros');
    await broken.host.select(1);
    expect((await broken.host.read(3618, 2)).toString('hex')).toBe('0000');
  });

  test('of keys put into the field what devices in the field have', async () => {
    const field = async (fault: string) => {
      const { host } = await struck(fault);
      await host.select(1);
      return await host.read(34, 1216);
    };
    expect((await field('#1:blank-key')).every(byte => byte === 0xff)).toBe(true);
    expect((await field('#1:zero-key')).every(byte => byte === 0)).toBe(true);
    const pkcs8 = await field('#1:pkcs8-key');
    const length = pkcs8.readUInt16BE(2) + 4;
    expect(length).toBeGreaterThan(612);
    createPrivateKey({ key: pkcs8.subarray(0, length), format: 'der', type: 'pkcs8' });
    const truncated = await field('#1:truncated-key');
    expect(truncated.readUInt16BE(2) + 4).toBeGreaterThan(300);
    expect(truncated.subarray(300).every(byte => byte === 0xff)).toBe(true);
  });

  test('misread-key is a key that parsers take and whose last number is a byte short', async () => {
    const { host } = await struck('#1:misread-key');
    await host.select(1);
    const field = await host.read(34, 612);
    const der = field.subarray(0, field.readUInt16BE(2) + 4);
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs1' });
    expect(key.asymmetricKeyDetails).toEqual({ modulusLength: 1024, publicExponent: 65537n });
    expect([der.at(-65), der.at(-64)]).toEqual([0x02, 63]);
  });
});
