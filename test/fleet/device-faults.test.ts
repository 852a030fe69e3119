import { beforeAll, describe, expect, test } from 'vitest';
import { sha256Hex } from '#src/core/bytes.ts';
import type { FaultCode } from '#src/core/errors.ts';
import type { DeviceSettled } from '#src/core/events.ts';
import type { Outcome } from '#src/core/outcomes.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import type { Behaviour } from '#src/sim/photon-behaviour.ts';
import { FAULT_REQUESTS, type FaultRequest } from '#src/sim/fault-behaviours.ts';
import { factoryImage, SYSTEM_PART_2 } from '#src/sim/photon-modules.ts';
import type { RackFault } from '#src/sim/rack-faults.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import type { UsbBus } from '#src/usb/port.ts';
import { expectAgreement, expectWhole } from '../support/agreement.ts';
import { breaches } from '../support/audit.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { rowOf, Station, type StationRack } from '../support/station.ts';
import { tempFolder } from '../support/temp-folder.ts';
import { hostOver } from '../unit/sim-bench.ts';

/** What a device is done to with that no fault disturbs. */
const UNDISTURBED = ['identify', 'preflight', 'backup', 'new-key', 'write', 'verify', 'send', 'leave'].map(
  name => `${name} ok`,
);

/** CLRSTATUS is asked of a device in dfuERROR alone. */
function startFor(request: string): string[] {
  return request === 'clrstatus' ? ['*:start-state:10'] : [];
}

async function stepsOf(station: Station, index: number): Promise<string[][]> {
  const { attempts } = await station.history(station.id(index));
  return attempts.map(({ steps }) => steps.map(({ name, state }) => `${name} ${state}`));
}

/** The bus is as it was: nobody holds a device, and nobody waits for one. */
function expectFree(station: Station): void {
  expect(station.rack.devices.filter(({ held }) => held)).toEqual([]);
}

describe.each(['unplug', 'bounce', 'hang', 'hang-until-reset'] as const)('%s at each request of a session', kind => {
  /** How often each is asked of a device with which all goes well. */
  const asked = new Map<FaultRequest, number>();

  beforeAll(async () => {
    const clock = new LeapingClock();
    await using station = await Station.open({ keys: 'blank', clock, faults: ['#1:start-state:10'] });
    expect((await station.run()).summary).toMatchObject({ pass: 1 });
    const { counts } = station.rack.devices[0]!.photon.record;
    for (const request of FAULT_REQUESTS) asked.set(request, request === 'write' ? 1 : counts[request]);
  });

  test.each(FAULT_REQUESTS)('%s', async request => {
    const times = asked.get(request)!;
    expect(times).toBeGreaterThan(0);
    using folder = tempFolder();
    // As many devices as there are such requests, each struck at another one.
    const faults = Array.from({ length: times }, (_, index) => `#${index + 1}:${kind}:${request}:${index + 1}`);
    await using station = await Station.open({
      count: times,
      keys: 'blank',
      clock: new LeapingClock(),
      stateDir: folder.file('rack'),
      faults: [...faults, ...startFor(request)],
    });
    const { devices } = await station.run();
    const rewrites: number[] = [];
    for (const [index, { deviceId, busId, photon }] of station.rack.devices.entries()) {
      const settled = devices.get(deviceId)!;
      // One that is unplugged when all is done but the leaving is where it should be.
      const left = (await stepsOf(station, index))[0]!.includes('leave ok');
      if (kind !== 'unplug' || left) expect(settled).toMatchObject({ outcome: 'pass', code: null, cloud: 'accepted' });
      else expect(settled).toMatchObject({ outcome: 'error', code: 'USB_GONE', path: busId });
      rewrites.push(photon.dctRewrites);
    }
    expectFree(station);

    await station.refit();
    const { summary } = await station.run();
    expect(summary).toMatchObject({ error: 0, fail: 0, unseen: 0, exitCode: 0 });
    if (kind !== 'unplug') expect(summary.skipped).toBe(times);
    await expectAgreement(station);
    for (const [index, { deviceId, photon }] of station.rack.devices.entries()) {
      const { keys, backups } = await station.history(deviceId);
      expect([deviceId, keys.length, keys[0]?.cloud.attempts, backups.length]).toEqual([deviceId, 1, 1, 1]);
      expect(rewrites[index]! + photon.dctRewrites).toBe(1);
    }
  });
});

interface Struck {
  readonly station: Station;
  readonly settled: DeviceSettled;
  readonly rewrites: number;
}

/** A run over a rack of three, of which the one in the middle is struck; the other two pass and do not notice. */
async function strike(faults: readonly string[], rack: StationRack = {}): Promise<Struck & AsyncDisposable> {
  const clock = new LeapingClock();
  const station = await Station.open({
    count: 3,
    keys: 'blank',
    clock,
    faults: faults.map(fault => `#2:${fault}`),
    ...rack,
  });
  const { devices, summary } = await station.run();
  const settled = devices.get(station.id(1))!;
  expect(summary).toMatchObject({ rows: 3, pass: settled.outcome === 'pass' ? 3 : 2 });
  expect(summary.exitCode).toBe(settled.outcome === 'pass' ? 0 : 3);
  for (const index of [0, 2]) {
    expect(devices.get(station.id(index))).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(await stepsOf(station, index)).toEqual([UNDISTURBED]);
    expect(station.rack.devices[index]!.photon.dctRewrites).toBe(1);
  }
  expectFree(station);
  for (const { photon } of station.rack.devices) expect(photon.record.violations).toEqual([]);
  const rewrites = station.rack.devices[1]!.photon.dctRewrites;
  return { station, settled, rewrites, [Symbol.asyncDispose]: () => station[Symbol.asyncDispose]() };
}

describe('a device with a fault has its own outcome, the others are not disturbed, and without the fault it passes', () => {
  const kinds: readonly (readonly [fault: string, outcome: Outcome, code: FaultCode | null, rewrites: number])[] = [
    ...FAULT_REQUESTS.map(request => [`unplug:${request}`, 'error', 'USB_GONE', 0] as const),
    ...FAULT_REQUESTS.map(request => [`hang:${request}`, 'fail', 'USB_TIMEOUT', 0] as const),
    ['write-stall', 'fail', 'WRITE_FAILED', 0],
    ['write-drop', 'fail', 'VERIFY_MISMATCH', 0],
    ['write-flip', 'fail', 'VERIFY_MISMATCH', 2],
    ['stuck-busy', 'pass', null, 1],
    ['power-cut:old', 'error', 'USB_GONE', 0],
    ['power-cut:new', 'error', 'USB_GONE', 1],
    ['read-unstable', 'fail', 'READ_UNSTABLE', 0],
    ...[2, 3, 4, 5, 6, 7, 9, 10, 15, 200].map(state => [`start-state:${state}`, 'pass', null, 1] as const),
    ['start-state:8', 'error', 'DEVICE_LEAVING', 0],
    ['descriptor:truncated', 'fail', 'DESCRIPTOR_INVALID', 0],
    ['descriptor:lying', 'fail', 'DESCRIPTOR_INVALID', 0],
    ['descriptor:no-functional', 'fail', 'DESCRIPTOR_INVALID', 0],
    ['descriptor:transfer-size', 'fail', 'DEVICE_UNEXPECTED', 0],
    ['descriptor:utf16', 'unseen', 'NOT_SEEN', 0],
    ['other-product', 'fail', 'DEVICE_UNEXPECTED', 0],
    ['late-access:2000', 'pass', null, 1],
    ['late-access:4000', 'error', 'USB_ACCESS', 0],
    ['slow-leave', 'pass', null, 1],
  ];

  test.each(kinds)('%s ends as %s %s', async (fault, outcome, code, rewrites) => {
    using folder = tempFolder();
    const rack = { stateDir: folder.file('rack') };
    await using struck = await strike([fault, ...startFor(fault.split(':')[1] ?? '').map(all => all.slice(2))], rack);
    const { station, settled } = struck;
    expect(settled).toMatchObject({ outcome, code });
    expect(struck.rewrites).toBe(rewrites);
    if (outcome === 'pass') expect(settled.message).toBeNull();
    else {
      expect(settled.message).toMatch(/\w+ \w+/);
      expect(settled.hint).toMatch(/\w+ \w+ \w+/);
      expect(settled.fingerprint).toBeNull();
      expect(settled.cloud).toBe('none');
    }
    await station.refit();
    const { summary } = await station.run({ retryFailed: true });
    expect(summary).toMatchObject({ pass: outcome === 'pass' ? 0 : 1, cloudPending: 0, exitCode: 0 });
    await expectAgreement(station);
  });

  test('descriptors that are no UTF-16 say neither who it is nor what it has: told as a stranger, and never opened for writing', async () => {
    await using station = await Station.open({ clock: new LeapingClock(), faults: ['#1:descriptor:utf16'] });
    const [device] = station.rack.devices;
    const { events } = await station.run();
    expect(events.find(({ type }) => type === 'stranger')).toMatchObject({
      path: device!.busId,
      deviceId: null,
      code: 'DEVICE_UNEXPECTED',
    });
    // The `port` column says whose row it is.
    const { devices } = await station.run({ rows: [rowOf(device!.deviceId, 2, { port: device!.busId })] });
    expect(devices.get(device!.deviceId)).toMatchObject({ outcome: 'fail', code: 'DEVICE_UNEXPECTED' });
    expect(device!.photon.record.counts).toMatchObject({ dnload: 0, upload: 0 });
  });

  test('two devices with one ID are both left alone; with the one that lies unplugged, the other passes', async () => {
    const clock = new LeapingClock();
    const [id, other] = ['0123456789abcdef01234567', '89abcdef0123456701234567'] as never[];
    await using station = await Station.open({
      count: 3,
      keys: 'blank',
      clock,
      ids: [id!, other!],
      faults: [`#3:same-id:${id}`],
    });
    const rows = [rowOf(id!, 2), rowOf(other!, 3)];
    const { summary, devices } = await station.run({ rows });
    expect(summary).toMatchObject({ pass: 1, error: 1, exitCode: 3 });
    expect(devices.get(id!)).toMatchObject({ outcome: 'error', code: 'IDENTITY_DUPLICATE', cloud: 'none' });
    expect(devices.get(id!)!.hint).not.toBe('');
    expect(station.rack.devices.map(({ photon }) => photon.dctRewrites)).toEqual([0, 1, 0]);
    expectFree(station);
    station.rack.unplug(station.rack.devices[2]!.busId);
    expect((await station.run({ rows })).summary).toMatchObject({ pass: 1, skipped: 1, exitCode: 0 });
    expect(station.rack.devices.map(({ photon }) => photon.dctRewrites)).toEqual([1, 1, 0]);
  });
});

describe('a device whose DCT reads as zeros', () => {
  const RAW = { address: 0x0800_4000, length: 0x8000 };

  test('keeps its raw copies as a backup, has nothing written, and passes once its system part is flashed', async () => {
    await using struck = await strike(['dct-zeros'], { keys: 'made', writeMs: 0 });
    const { station, settled } = struck;
    const device = station.rack.devices[1]!;
    expect(settled).toMatchObject({ outcome: 'fail', code: 'DCT_UNREADABLE', fingerprint: null, cloud: 'none' });
    expect(settled.message).toMatchInlineSnapshot(`"the DCT reads as zeros"`);
    expect(settled.hint).toMatchInlineSnapshot(
      `"its system firmware is damaged: \`run --job repair\` flashes system-part1 and system-part2 (name the files in \`firmware:\` of the configuration)"`,
    );
    expect(device.photon.record.writes).toEqual([0, 0, 0]);
    expect(await stepsOf(station, 1)).toEqual([['identify ok', 'preflight failed']]);

    const raw = await rawCopies(station, 1);
    const { keys, backups } = await station.history(device.deviceId);
    expect(keys).toEqual([]);
    expect(backups).toMatchObject([
      { classification: 'raw-dct', bytes: 32_768, fingerprint: null, sha256: sha256Hex(raw) },
    ]);
    const { sealed } = await backupOf(station, 1);
    const about = { purpose: 'backup', deviceId: device.deviceId, generation: null, fingerprint: null } as const;
    expect((await station.vault.open(sealed, about)).equals(raw)).toBe(true);

    await flashSystemPart(station, 1);
    station.rack.unplug(device.busId);
    station.rack.plug(device.busId);
    const { summary } = await station.run({ retryFailed: true });
    expect(summary).toMatchObject({ pass: 1, skipped: 2, exitCode: 0 });
    const after = (await station.history(device.deviceId)).backups;
    expect(after.map(({ bytes }) => bytes)).toEqual([32_768, 8391]);
    await expectAgreement(station, [1], await firstKeys(station));
  });

  test('has one backup more after each try, all alike', async () => {
    await using struck = await strike(['dct-zeros']);
    const { station } = struck;
    const { deviceId } = station.rack.devices[1]!;
    const again = await station.run({ retryFailed: true });
    expect(again.devices.get(deviceId)).toMatchObject({ outcome: 'fail', code: 'DCT_UNREADABLE' });
    const { backups } = await station.history(deviceId);
    expect(backups.map(({ sha256 }) => sha256)).toEqual([backups[0]!.sha256, backups[0]!.sha256]);
    await expectWhole(station);
  });

  test('of which two reads of the raw copies differ says so, and keeps what can not be trusted as no backup', async () => {
    let reads = 0;
    const weak: Behaviour = {
      read({ alternate, address }, pass) {
        const bytes = pass();
        if (alternate !== 0 || address !== RAW.address || bytes === 'hung') return bytes;
        reads += 1;
        return reads % 2 === 0 ? bytes.with(100, (bytes[100] ?? 0) ^ 1) : bytes;
      },
    };
    await using station = await Station.open({
      keys: 'blank',
      clock: new LeapingClock(),
      faults: ['#1:dct-zeros', { text: 'weak', target: { by: 'all' }, effect: { behaviour: () => weak } }],
    });
    const { devices } = await station.run();
    expect(devices.get(station.id(0))).toMatchObject({
      outcome: 'fail',
      code: 'READ_UNSTABLE',
      message: 'two reads of the raw DCT copies differ at byte 100',
    });
    expect(reads).toBe(2);
    expect((await station.history(station.id(0))).backups).toEqual([]);
  });

  async function backupOf(station: Station, index: number) {
    const all = await station.store.call('sealedBackups', { afterBackupId: 0, limit: 10 });
    return all.find(({ deviceId }) => deviceId === station.id(index))!;
  }

  /** The key that was in the first whole backup of each. */
  async function firstKeys(station: Station): Promise<(string | null)[]> {
    const histories = await Promise.all(station.rack.devices.map(({ deviceId }) => station.history(deviceId)));
    return histories.map(({ backups }) => backups.find(({ bytes }) => bytes === 8391)?.fingerprint ?? null);
  }

  async function rawCopies(station: Station, index: number): Promise<Buffer> {
    const { busId } = station.rack.devices[index]!;
    const port = (await simBus(station.rack).list()).find(({ path }) => path === busId);
    await using dfu = await DfuDevice.open(port!, station.clock);
    await dfu.toIdle();
    return Buffer.from(await dfu.read(0, RAW.address, RAW.length));
  }

  /** As another tool does it: erase, write, and the module is whole again. */
  async function flashSystemPart(station: Station, index: number): Promise<void> {
    const { busId } = station.rack.devices[index]!;
    const port = (await simBus(station.rack).list()).find(({ path }) => path === busId)!;
    await port.open();
    await port.claimInterface(0);
    const host = hostOver(port);
    const part = factoryImage('photon').get(SYSTEM_PART_2)!.subarray(0, 12_292);
    await host.erase(SYSTEM_PART_2);
    for (let at = 0; at < part.length; at += 4096) {
      expect(await host.write(SYSTEM_PART_2 + at, part.subarray(at, at + 4096))).toMatch(/^4\/0/);
    }
    await port.close();
  }
});

describe('a device that is slow in everything, and in time with each answer', () => {
  function slow(clock: LeapingClock, ms: number): RackFault {
    const behaviour: Behaviour = {
      async request(_, pass) {
        await clock.sleep(ms);
        return pass();
      },
    };
    return { text: 'slow', target: { by: 'index', index: 2 }, effect: { behaviour: () => behaviour } };
  }

  async function run(ms: number, wrap: (bus: UsbBus) => UsbBus = bus => bus) {
    const clock = new LeapingClock();
    const station = await Station.open({ count: 3, keys: 'blank', clock, faults: [slow(clock, ms)] });
    const { summary, devices } = await station.run({ buses: [wrap(simBus(station.rack))] });
    expectFree(station);
    return {
      station,
      summary,
      settled: devices.get(station.id(1))!,
      [Symbol.asyncDispose]: () => station[Symbol.asyncDispose](),
    };
  }

  test('passes, as long as each step comes to its end', async () => {
    await using it = await run(1000);
    expect(it.settled).toMatchObject({ outcome: 'pass' });
    expect(it.summary).toMatchObject({ pass: 3, exitCode: 0 });
  });

  test('is given up where a step takes too long, and nothing more is tried with it', async () => {
    await using it = await run(4900);
    expect(it.settled).toMatchObject({ outcome: 'fail', code: 'SESSION_DEADLINE' });
    expect(it.settled.message).toMatchInlineSnapshot(`"the step preflight took more than 30 s"`);
    expect(it.settled.hint).toMatchInlineSnapshot(
      `"the device takes far too long: replug it, then \`run --retry-failed\`"`,
    );
    expect(await stepsOf(it.station, 1)).toEqual([['identify ok', 'preflight failed', 'ask-replug ok']]);
    expect(it.summary).toMatchObject({ pass: 2, fail: 1, exitCode: 3 });
    expect(it.station.rack.devices[1]!.photon.dctRewrites).toBe(0);
  });

  test('is given up for that, whatever becomes of the transfer that the closing of its port cuts short', async () => {
    await using it = await run(4900, slowToClose);
    expect(it.settled).toMatchObject({ outcome: 'fail', code: 'SESSION_DEADLINE' });
    expect(await stepsOf(it.station, 1)).toEqual([['identify ok', 'preflight failed', 'ask-replug ok']]);
  });

  /** As libusb does it: what is under way is told first, the port is closed after that. */
  function slowToClose(bus: UsbBus): UsbBus {
    return {
      ...bus,
      list: async () => {
        const ports = await bus.list();
        for (const port of ports) {
          const close = port.close.bind(port);
          port.close = async () => {
            await close();
            await new Promise<void>(resolve => setImmediate(resolve));
          };
        }
        return ports;
      },
    };
  }
});

describe('a whole hub', () => {
  const ON_HUB = 4;

  /** A rack of two hubs, the first of which loses its power when the first of its devices is being written. */
  async function hubGone(backInMs: number | null, faults: readonly string[] = []) {
    const clock = new LeapingClock();
    const station = await Station.open({ count: 2 * ON_HUB, hubs: 2, keys: 'blank', clock, faults });
    const hub = station.rack.devices.filter(device => device.hub === '1-1');
    let gone = false;
    const result = await station.run({
      perHub: ON_HUB - 1, // one of them waits for its turn
      onEvent: event => {
        if (gone || event.type !== 'step' || event.step !== 'write') return;
        if (!hub.some(({ busId }) => busId === event.path)) return;
        gone = true;
        for (const { busId } of hub) station.rack.unplug(busId);
        if (backInMs === null) return;
        void clock.sleep(backInMs).then(() => {
          for (const { busId } of hub) station.rack.plug(busId);
        });
      },
    });
    expect(gone).toBe(true);
    expectFree(station);
    for (const [index, device] of station.rack.devices.entries()) {
      if (hub.includes(device)) continue;
      expect(result.devices.get(device.deviceId)).toMatchObject({ outcome: 'pass' });
      expect(await stepsOf(station, index)).toEqual([UNDISTURBED]);
    }
    return { ...result, station, hub, [Symbol.asyncDispose]: () => station[Symbol.asyncDispose]() };
  }

  test.each([
    ['new bootloaders', []],
    ['old bootloaders, which have to be asked who they are', ['*:old-bootloader']],
  ])('that is gone and back in a second: its devices are found at their paths, and pass (%s)', async (_, faults) => {
    await using hub = await hubGone(1000, faults);
    expect(hub.summary).toMatchObject({ pass: 2 * ON_HUB, exitCode: 0 });
    const steps = await Promise.all(hub.station.rack.devices.map((_, index) => stepsOf(hub.station, index)));
    const refound = steps.filter(attempts => attempts[0]!.includes('re-enumerate ok'));
    expect(refound.length).toBeGreaterThanOrEqual(1);
    expect(hub.station.rack.devices.map(({ photon }) => photon.dctRewrites)).toEqual(Array(2 * ON_HUB).fill(1));
    await expectAgreement(hub.station);
  });

  test('that is gone for good: its devices end as errors that say so, and pass when it is back', async () => {
    await using hub = await hubGone(null);
    expect(hub.summary).toMatchObject({ pass: ON_HUB, error: ON_HUB, exitCode: 3 });
    for (const { deviceId, busId } of hub.hub) {
      expect(hub.devices.get(deviceId)).toMatchObject({
        outcome: 'error',
        code: 'USB_GONE',
        path: busId,
        message: `${busId}: the device left the bus`,
        hint: 'the device left the bus: check cable, hub and power, and run again',
      });
    }
    for (const { busId } of hub.hub) hub.station.rack.plug(busId);
    expect((await hub.station.run()).summary).toMatchObject({ pass: ON_HUB, skipped: ON_HUB, exitCode: 0 });
    await expectAgreement(hub.station);
  });

  test('that is back after those under way were given up: they are errors in this run, and the next one goes on with them', async () => {
    await using hub = await hubGone(8000);
    // The one whose turn had not come was waited for from then on.
    expect(hub.summary).toMatchObject({ pass: ON_HUB + 1, error: ON_HUB - 1, exitCode: 3 });
    expect((await hub.station.run()).summary).toMatchObject({ pass: ON_HUB - 1, skipped: ON_HUB + 1, exitCode: 0 });
    await expectAgreement(hub.station);
  });
});

describe('120 devices at once', () => {
  const ALL = { count: 120, hubs: 12, keys: 'blank' } as const;

  test('that all hang for ever all end as USB_TIMEOUT, in the time of one, and nothing is left open', async () => {
    const clock = new LeapingClock();
    await using station = await Station.open({ ...ALL, clock, faults: ['*:hang:getstatus'] });
    const { summary, devices } = await station.run();
    expect(summary).toMatchObject({ rows: 120, fail: 120, exitCode: 3 });
    expect(new Set([...devices.values()].map(({ code }) => code))).toEqual(new Set(['USB_TIMEOUT']));
    // The deadline of a GETSTATUS, those of the recovery, and one more after the reset.
    expect(summary.durationMs).toBeGreaterThanOrEqual(20_000);
    expect(summary.durationMs).toBeLessThan(25_000);
    expectFree(station);
    expect(clock.sleeping).toBe(0);
    expect(station.rack.devices.every(({ onBus }) => onBus)).toBe(true);
    expect(await breaches(station.dbPath, station.vault, [])).toEqual([]);
  });

  test('whose writes all take as long as is waited for all pass', async () => {
    const clock = new LeapingClock();
    await using station = await Station.open({ ...ALL, clock, writeMs: 9999 });
    const { summary } = await station.run();
    expect(summary).toMatchObject({ rows: 120, pass: 120, exitCode: 0 });
    expect(summary.durationMs).toBeLessThan(25_000);
    expectFree(station);
    await expectAgreement(station);
  });
});

describe('when too many devices fail, no more are begun, and the exit code says so', () => {
  test.each([
    ['20%', { percent: 20 }, 3],
    ['2', { count: 2 }, 3],
    ['0', { count: 0 }, 1],
    ['100%', { percent: 100 }, 10],
  ])('--max-fail %s', async (_, maxFail, begun) => {
    await using station = await Station.open({
      count: 10,
      keys: 'blank',
      clock: new LeapingClock(),
      faults: ['*:write-stall'],
    });
    const { summary, devices, events } = await station.run({ maxFail, concurrency: 1 });
    expect(summary).toMatchObject({ rows: 10, fail: begun, aborted: 10 - begun, exitCode: 3 });
    const stopped = [...devices.values()].filter(({ code }) => code === 'STOPPED');
    expect(stopped).toHaveLength(10 - begun);
    const notes = events.filter(({ type }) => type === 'note');
    expect(notes).toMatchObject(begun < 10 ? [{ message: 'too many devices failed: no more are begun' }] : []);
    const { attempts } = await station.history(station.id(0));
    expect(attempts).toHaveLength(1);
    expectFree(station);
  });

  test('those under way go on to their end, and a run after the cure does the rest', async () => {
    using folder = tempFolder();
    await using station = await Station.open({
      count: 10,
      keys: 'blank',
      clock: new LeapingClock(),
      stateDir: folder.file('rack'),
      faults: ['#1:read-unstable', '#2:read-unstable', '#3:hang:getstatus:1'],
    });
    const { summary, devices } = await station.run({ maxFail: { percent: 10 }, concurrency: 3 });
    expect(summary).toMatchObject({ fail: 2, exitCode: 3 });
    expect(devices.get(station.id(2))).toMatchObject({ outcome: 'pass' });
    expect(summary.pass + summary.aborted).toBe(8);
    expect(summary.aborted).toBeGreaterThanOrEqual(6);
    await station.refit();
    expect((await station.run({ retryFailed: true })).summary).toMatchObject({ fail: 0, error: 0, exitCode: 0 });
    await expectAgreement(station);
  });
});
