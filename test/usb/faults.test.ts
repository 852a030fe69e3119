import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import type { RackDevice } from '#src/sim/rack-device.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { serveRack, type RackServer } from '#src/sim/usbip-server.ts';
import { createRack, type VirtualRack } from '#src/sim/virtual-rack.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';
import { localBus } from '#src/usb/webusb.ts';
import { readIdentity } from '#src/vault/identity-file.ts';
import { vaultOf } from '#src/vault/vault.ts';
import { breaches } from '../support/audit.ts';
import { Bench, csvOf, jsonLines, type Ended, type Served } from '../support/cli.ts';
import { udevSettled } from './kernel-bench.ts';
import { dfuRead } from './programs.ts';
import { until } from './until.ts';
import { allUnplugged, pathOf, plugIn } from './vhci.ts';
import { XhciSocket } from './xhci-socket.ts';

/*
 * Devices that fail at their work, below the real program, the package `usb` and a real kernel. Those of which something
 * is expected that vhci keeps to itself, a reset or a return by itself, hang on the xHCI controller. The tests of the
 * first group go on where the one before has left off.
 */

const WRITE_MS = 600;
const DCT_BYTES = 8391;
const PRIVATE_KEY = 34;
const GET_STATUS = { requestType: 'class', recipient: 'interface', request: 3, value: 0, index: 0 } as const;
const TOKEN = { PARTICLE_ACCESS_TOKEN: 'token-of-the-usb-tests' };
const UNDISTURBED = ['identify', 'preflight', 'backup', 'new-key', 'write', 'verify', 'send', 'leave'].map(ok);

function ok(name: string): string {
  return `${name} ok`;
}

/** What ails each device, in the order of the rack; the first two are on xHCI. */
const FAULTS = {
  hangsUntilReset: 'hang-until-reset:getstatus:6',
  bouncesInWrite: 'bounce:write',
  unpluggedInWrite: 'unplug:write',
  unpluggedInRead: 'unplug:upload:2',
  hangs: 'hang:getstatus',
  bouncesInRead: 'bounce:upload:2',
  lies: 'descriptor:lying',
  isWell: null,
} as const;
type Name = keyof typeof FAULTS;
const NAMES = Object.keys(FAULTS) as Name[];
const ON_XHCI = 2;

describe('a run over a real kernel', () => {
  let bench: Bench;
  let cloud: Served;
  let rack: VirtualRack;
  let server: RackServer;
  const sockets: XhciSocket[] = [];

  beforeAll(async () => {
    bench = new Bench();
    const faults = Object.values(FAULTS).flatMap((fault, nth) => (fault ? parseFault(`#${nth + 1}:${fault}`) : []));
    rack = await createRack({ count: NAMES.length, hubs: 4, writeMs: WRITE_MS, keys: 'blank', faults });
    server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
    cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0', '--token'], TOKEN);
    bench.file('rack.csv', csvOf(rack.devices));
  });

  afterAll(async () => {
    for (const socket of sockets) await socket.close();
    await server.close();
    await rack.close();
    await allUnplugged();
    await bench[Symbol.asyncDispose]();
  });

  function device(name: Name): RackDevice {
    return rack.devices[NAMES.indexOf(name)]!;
  }

  async function plug(...names: readonly Name[]): Promise<void> {
    for (const name of names) {
      rack.plug(device(name).busId);
      rack.enterDfu(device(name).busId);
    }
    const nths = names.map(name => NAMES.indexOf(name));
    for (const nth of nths.filter(each => each < ON_XHCI)) {
      sockets[nth] ??= await XhciSocket.of(nth === 0 ? 1 : 2, rack, rack.devices[nth]!);
      await sockets[nth].found();
    }
    const onVhci = nths.filter(each => each >= ON_XHCI).map(nth => ({ nth, busId: rack.devices[nth]!.busId }));
    await plugIn(
      server,
      onVhci.map(({ nth, busId }) => ({ busId, place: { hub: nth, port: 0 } })),
    );
    await udevSettled();
  }

  /** A device that has passed is on the bus for half a second more, and can not be put into DFU mode before it has left. */
  async function plugAfterLeaving(...names: readonly Name[]): Promise<void> {
    for (const name of names) await until(`${name} to have left`, () => !device(name).onBus);
    await plug(...names);
  }

  async function pathOn(name: Name): Promise<string> {
    const nth = NAMES.indexOf(name);
    return sockets[nth]?.path ?? (await pathOf({ hub: nth, port: 0 }));
  }

  function photonFleet(...args: readonly string[]): Promise<Ended> {
    const env = { ...TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url };
    return bench.run([...args, '--json', '--db', bench.path('fleet.db')], env);
  }

  function run(names: readonly Name[], ...more: readonly string[]): Promise<Ended> {
    const only = names.map(name => device(name).deviceId).join(',');
    return photonFleet('run', 'rack.csv', '--only', only, '--wait', '5', ...more);
  }

  function lineOf({ stdout }: Ended, name: Name): Record<string, unknown> | undefined {
    return jsonLines(stdout).find(({ deviceId }) => deviceId === device(name).deviceId);
  }

  /** The steps and rungs of its newest attempt. */
  function stepsOf(name: Name): string[] {
    const db = new Database(bench.path('fleet.db'), { readonly: true });
    try {
      const newest = 'SELECT max(id) FROM attempts WHERE device_id = ?';
      const query = `SELECT name || ' ' || state FROM steps WHERE attempt_id = (${newest}) ORDER BY seq`;
      return db.prepare<[string], string>(query).pluck().all(device(name).deviceId);
    } finally {
      db.close();
    }
  }

  /** That its key is on record and at the cloud, by what dfu-util reads. */
  async function expectAgreement(names: readonly Name[]): Promise<void> {
    const answer = await fetch(`${cloud.url}/v1/sim/keys`);
    const told = ((await answer.json()) as { devices: Record<string, { fingerprint: string }> }).devices;
    const identity = await readIdentity(bench.path('fleet.identity'));
    const witnesses = [];
    for (const name of names) {
      const { deviceId } = device(name);
      const dct = await dfuRead(await pathOn(name), 0, DCT_BYTES);
      const fingerprint = told[deviceId]?.fingerprint;
      witnesses.push({
        deviceId: parseDeviceId(deviceId)!,
        dct,
        firstKey: null,
        told: fingerprint === undefined ? [] : [fingerprint],
        maxInFlight: 1,
      });
      expect([name, dct[PRIVATE_KEY] === 0x30]).toEqual([name, fingerprint !== undefined]);
    }
    expect(await breaches(bench.path('fleet.db'), vaultOf(identity!), witnesses)).toEqual([]);
  }

  test('a device that hangs until a reset is brought back by it; one that is unplugged or hangs for ever fails alone', async () => {
    const names = ['hangsUntilReset', 'unpluggedInWrite', 'unpluggedInRead', 'hangs', 'isWell'] as const;
    await plug(...names);
    const ended = await run(names);
    expect({ code: ended.code, stderr: ended.stderr }).toEqual({ code: 3, stderr: '' });
    expect(jsonLines(ended.stdout).at(-1)).toMatchObject({ rows: 5, pass: 2, error: 2, fail: 1, exitCode: 3 });
    for (const name of ['hangsUntilReset', 'isWell'] as const) {
      expect(lineOf(ended, name)).toMatchObject({ outcome: 'pass', code: null, cloud: 'accepted' });
    }
    for (const name of ['unpluggedInWrite', 'unpluggedInRead'] as const) {
      expect(lineOf(ended, name)).toMatchObject({ outcome: 'error', code: 'USB_GONE', cloud: 'none' });
    }
    expect(lineOf(ended, 'hangs')).toMatchObject({ outcome: 'fail', code: 'USB_TIMEOUT', cloud: 'none' });
  });

  test('each step and each rung of the ladder is on record, and `history` tells them', async () => {
    expect(stepsOf('isWell')).toEqual(UNDISTURBED);
    expect(stepsOf('hangsUntilReset')).toEqual([
      ...UNDISTURBED.slice(0, 4),
      'write failed',
      'dfu-recovery failed',
      'usb-reset ok',
      'identify ok',
      'preflight ok',
      'backup skipped',
      'new-key skipped',
      ...UNDISTURBED.slice(4),
    ]);
    expect(stepsOf('unpluggedInWrite')).toEqual([
      ...UNDISTURBED.slice(0, 4),
      'write failed',
      're-enumerate failed',
      'ask-replug ok',
    ]);
    expect(stepsOf('unpluggedInRead')).toEqual([
      'identify ok',
      'preflight failed',
      're-enumerate failed',
      'ask-replug ok',
    ]);
    expect(stepsOf('hangs')).toEqual([
      'identify ok',
      'preflight failed',
      'dfu-recovery failed',
      'usb-reset ok',
      'identify ok',
      'preflight failed',
      'ask-replug ok',
    ]);
    // Of one, since the program takes long to start in emulation.
    const { stdout } = await photonFleet('history', device('hangsUntilReset').deviceId);
    const { attempts } = JSON.parse(stdout) as { attempts: { steps: { name: string; state: string }[] }[] };
    const told = attempts.map(({ steps }) => steps.map(step => `${step.name} ${step.state}`));
    expect(told).toEqual([stepsOf('hangsUntilReset')]);
  });

  test('nobody holds a device afterwards: another program opens each, and dfu-util reads it', async () => {
    await expectFree(await pathOn('hangs'));
    // Those that passed have left DFU mode, and are brought back into it by hand.
    await plugAfterLeaving('hangsUntilReset', 'isWell');
    await expectAgreement(['hangsUntilReset', 'isWell']);
  });

  test('plugged in again, the unplugged ones pass with one write each; one whose contact is loose in its write passes, one that lies in its descriptors fails', async () => {
    const names = ['unpluggedInWrite', 'unpluggedInRead', 'bouncesInWrite', 'lies'] as const;
    await plug(...names);
    const ended = await run(names, '--retry-failed');
    expect({ code: ended.code, stderr: ended.stderr }).toEqual({ code: 3, stderr: '' });
    for (const name of names.slice(0, 3)) {
      expect([name, lineOf(ended, name)]).toMatchObject([name, { outcome: 'pass', code: null, cloud: 'accepted' }]);
      expect(device(name).photon.dctRewrites).toBe(1);
    }
    expect(lineOf(ended, 'lies')).toMatchObject({ outcome: 'fail', code: 'DESCRIPTOR_INVALID' });
    expect(stepsOf('lies')).toEqual(['open failed', 'usb-reset ok', 'open failed', 'ask-replug ok']);
    expect(stepsOf('bouncesInWrite').slice(4, 7)).toEqual(['write failed', 're-enumerate ok', 'identify ok']);
    await expectFree(await pathOn('lies'));
    await plugAfterLeaving(...names.slice(0, 3));
    await expectAgreement(names.slice(0, 3));
  });

  test('a device that leaves the bus in a read and is plugged in again while it is waited for passes', async () => {
    await plug('bouncesInRead');
    const bouncing = device('bouncesInRead');
    const { appearance } = bouncing;
    const running = run(['bouncesInRead']);
    await until('the device to be back', () => bouncing.onBus && bouncing.appearance !== appearance);
    await plugIn(server, [{ busId: bouncing.busId, place: { hub: NAMES.indexOf('bouncesInRead'), port: 0 } }]);
    const ended = await running;
    expect(lineOf(ended, 'bouncesInRead')).toMatchObject({ outcome: 'pass', code: null, cloud: 'accepted' });
    expect(stepsOf('bouncesInRead').slice(0, 3)).toEqual(['identify ok', 'preflight failed', 're-enumerate ok']);
    await plugAfterLeaving('bouncesInRead');
    await expectAgreement(['bouncesInRead']);
  });
});

describe('a device that not even a reset brings back', () => {
  test('is given up after 10 s, and so is a look at the bus by whoever has to look anew, until it is unplugged', async () => {
    const faults = [parseFault('#1:hang-until-reset:getstatus:2')];
    const rack = await createRack({ count: 1, hubs: 1, writeMs: WRITE_MS, keys: 'blank', faults });
    const socket = await XhciSocket.of(1, rack, rack.devices[0]!);
    const [bus, other] = [localBus(), localBus()];
    try {
      await socket.found();
      await udevSettled();
      socket.deaf = true;
      const port = await photonOn(bus);
      await port!.open();
      await port!.claimInterface(0);
      expect(await port!.controlTransferIn(GET_STATUS, 6, 5000)).toMatchObject({ status: 'ok' });
      await expect(port!.controlTransferIn(GET_STATUS, 6, 500)).rejects.toMatchObject({ code: 'USB_TIMEOUT' });
      await expect(port!.reset()).rejects.toMatchObject({
        code: 'USB_TIMEOUT',
        message: `${socket.path}: not back after a reset in 10 s`,
      });
      await port!.close();
      await expect(port!.open()).rejects.toMatchObject({ code: 'USB_TIMEOUT' });
      expect(await photonOn(bus)).toBe(port); // nobody has come since it was looked at
      await expect(other.list()).rejects.toMatchObject({
        code: 'USB_UNAVAILABLE',
        message: 'the USB bus has not answered for 10 s',
        hint: 'a device does not come back from a reset: unplug the one that failed last, or wait two minutes',
      });
      rack.unplug(rack.devices[0]!.busId);
      for (const each of [bus, other]) {
        await until('a look at the bus', async () => (await photonOn(each).catch(() => null)) === undefined);
      }
      socket.deaf = false;
      rack.plug(rack.devices[0]!.busId);
      await socket.found();
      await expectFree(socket.path);
    } finally {
      await bus.close();
      await other.close();
      await socket.close();
      await rack.close();
    }
  });
});

async function photonOn(bus: UsbBus): Promise<UsbPort | undefined> {
  return (await bus.list()).find(({ vendorId }) => vendorId === 0x2b04);
}

/** That this process, which is not the one that had it, can open the device and claim it. */
async function expectFree(path: string): Promise<void> {
  await udevSettled();
  const bus = localBus();
  try {
    const port = (await bus.list()).find(each => (each.path as string) === path);
    await port!.open();
    await port!.claimInterface(0);
    await port!.close();
  } finally {
    await bus.close();
  }
}
