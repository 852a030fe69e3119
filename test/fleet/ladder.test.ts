import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { parseDeviceId, type DeviceId } from '#src/core/device-id.ts';
import type { DeviceSettled, RunEvent } from '#src/core/events.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { RUNGS } from '#src/session/ladder.ts';
import type { Behaviour } from '#src/sim/photon-behaviour.ts';
import type { RackDevice } from '#src/sim/rack-device.ts';
import type { RackFault } from '#src/sim/rack-faults.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { expectAgreement, expectWhole, hasLeft } from '../support/agreement.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { SocketsBus } from '../support/sockets-bus.ts';
import { comparable, roundTheLadder, rowOf, Station, type RunSettings, type StationRack } from '../support/station.ts';

interface Climb extends AsyncDisposable {
  readonly station: Station;
  readonly device: RackDevice;
  readonly settled: DeviceSettled;
  readonly events: readonly RunEvent[];
  readonly exitCode: number;
  /** Of the newest attempt: `write failed`. */
  readonly steps: readonly string[];
  /** What was tried in the newest attempt, in order. */
  readonly rungs: readonly string[];
}

/** A run with one device that is struck. */
async function climb(
  faults: readonly (string | RackFault)[],
  {
    rack = {},
    cloud = [],
    prepare,
    ...settings
  }: RunSettings & { rack?: StationRack; cloud?: string[]; prepare?: (station: Station) => Promise<void> } = {},
): Promise<Climb> {
  const struck = faults.map(fault => (typeof fault === 'string' ? `#1:${fault}` : fault));
  const station = await Station.open({ keys: 'blank', clock: new LeapingClock(), faults: struck, ...rack });
  await prepare?.(station);
  station.cloud.setFaults(cloud.map(parseCloudFault));
  const { summary, devices, events } = await station.run(settings);
  const device = station.rack.devices[0]!;
  expect(device.held).toBe(false);
  expect(device.photon.record.violations).toEqual([]);
  const steps = await stepsOf(station);
  return {
    station,
    device,
    settled: devices.get(device.deviceId)!,
    events,
    exitCode: summary.exitCode,
    steps,
    rungs: rungsOf(steps),
    [Symbol.asyncDispose]: () => station[Symbol.asyncDispose](),
  };
}

async function stepsOf(station: Station): Promise<string[]> {
  const { attempts } = await station.history(station.id(0));
  return attempts.at(-1)!.steps.map(({ name, state }) => `${name} ${state}`);
}

function rungsOf(steps: readonly string[]): string[] {
  return steps.filter(step => (RUNGS as readonly string[]).includes(step.split(' ')[0]!));
}

/** It passed with the first key that was made for it, written and sent as often as said. */
async function expectOneKey({ station, device, settled }: Climb, rewrites = 1): Promise<void> {
  expect(settled).toMatchObject({ outcome: 'pass', code: null, cloud: 'accepted' });
  const { keys, backups } = await station.history(device.deviceId);
  expect(keys).toMatchObject([{ generation: 1, state: 'active', cloud: { state: 'accepted', attempts: 1 } }]);
  expect(backups).toHaveLength(1);
  expect(device.photon.dctRewrites).toBe(rewrites);
  await expectAgreement(station);
}

describe('again: the steps once more, which go on where they were', () => {
  test('a write that fails once is made again with the same key', async () => {
    await using it = await climb(['write-stall:1']);
    expect(it.steps).toEqual([
      'identify ok',
      'preflight ok',
      'backup ok',
      'new-key ok',
      'write failed',
      'again ok',
      'identify ok',
      'preflight ok',
      'backup skipped',
      'new-key skipped',
      'write ok',
      'verify ok',
      'send ok',
      'leave ok',
    ]);
    await expectOneKey(it);
  });

  test('a block that was dropped is written again with the same key', async () => {
    await using it = await climb(['write-drop:1']);
    expect(it.steps.slice(4)).toEqual([
      'write ok',
      'verify failed',
      'again ok',
      'identify ok',
      'preflight ok',
      'backup skipped',
      'new-key skipped',
      'write ok',
      'verify ok',
      'send ok',
      'leave ok',
    ]);
    await expectOneKey(it);
  });

  test('a block that came out wrong is written again with the same key, and what lay there between goes into no backup', async () => {
    await using it = await climb(['write-flip:1']);
    expect(it.rungs).toEqual(['again ok']);
    await expectOneKey(it, 2);
  });

  test('a block that came out wrong leaves nothing of it in the fields that a job does not write', async () => {
    const server = { key: 'keep', host: 'cloud.example.org', port: 5684 };
    let before: Buffer | undefined;
    let writes = 0;
    const flip: Behaviour = {
      write(block, pass) {
        writes += 1;
        return pass(writes > 1 ? block : { ...block, data: block.data.with(5, (block.data[5] ?? 0) ^ 1) });
      },
    };
    const inServerKey = { text: 'flip', target: { by: 'all' }, effect: { behaviour: () => flip } } as const;
    await using it = await climb([inServerKey], {
      rack: { keys: 'made' },
      job: 'server-key',
      server,
      prepare: async station => {
        before = await station.dct(0);
      },
    });
    expect(it.rungs).toEqual(['again ok']);
    expect(it.settled).toMatchObject({ outcome: 'pass' });
    expect(it.device.photon.dctRewrites).toBe(2);
    await hasLeft(it.station, 0);
    const expected = Buffer.from(before!);
    expected.fill(0xff, 2082 + 384, 2082 + 450);
    expected.set([1, server.host.length, ...Buffer.from(server.host), 0], 2082 + 384);
    expected.writeUInt16BE(5684, 2082 + 450);
    expect(comparable(await it.station.dct(0)).equals(comparable(expected))).toBe(true);
  });

  test('flash that lies twice is bad: two writes are all that it gets', async () => {
    await using it = await climb(['write-flip']);
    expect(it.rungs).toEqual(['again ok', 'ask-replug ok']);
    expect(it.settled).toMatchObject({ outcome: 'fail', code: 'VERIFY_MISMATCH' });
    expect(it.device.photon.dctRewrites).toBe(2);
  });
});

describe('dfu-recovery: first out of whatever state DFU is in', () => {
  test('a GETSTATUS that hangs once', async () => {
    await using it = await climb(['hang:getstatus:1']);
    expect(it.steps).toEqual([
      'identify ok',
      'preflight failed',
      'dfu-recovery ok',
      'identify ok',
      'preflight ok',
      'backup ok',
      'new-key ok',
      'write ok',
      'verify ok',
      'send ok',
      'leave ok',
    ]);
    await expectOneKey(it);
  });

  test('a device that does not answer while it is opened: there is nothing to recover, and it is opened anew', async () => {
    await using it = await climb(['hang:descriptor:2']);
    expect(it.steps.slice(0, 3)).toEqual(['open failed', 'dfu-recovery skipped', 'identify ok']);
    await expectOneKey(it);
  });

  test('a write that this host gave up on, and that goes on: it is waited for, and not made again', async () => {
    await using it = await climb([], { rack: { writeMs: 15_000 } });
    expect(it.rungs).toEqual(['dfu-recovery ok']);
    expect(it.steps.slice(-4)).toEqual(['write skipped', 'verify ok', 'send ok', 'leave ok']);
    expect(it.device.photon.record.writes).toEqual([0, 1, 0]);
    await expectOneKey(it);
  });

  test('a write that is lost in a hang is made again with the same key', async () => {
    await using it = await climb(['hang:write:1']);
    expect(it.rungs).toEqual(['dfu-recovery ok']);
    await expectOneKey(it);
  });
});

describe('usb-reset: first a reset of the port, and the device opened anew at its path', () => {
  test.each(['hang-until-reset:getstatus:3', 'hang-until-reset:write', 'hang-until-reset:abort:5'])(
    '%s: recovery is tried in vain, the reset helps',
    async fault => {
      await using it = await climb([fault]);
      expect(it.rungs).toEqual(['dfu-recovery failed', 'usb-reset ok']);
      await expectOneKey(it);
    },
  );

  test('a device that says busy for ever after it has written is reset, and what it has written is taken', async () => {
    await using it = await climb(['stuck-busy']);
    expect(it.rungs).toEqual(['again ok', 'dfu-recovery failed', 'usb-reset ok']);
    expect(it.steps.slice(-4)).toEqual(['write skipped', 'verify ok', 'send ok', 'leave ok']);
    await expectOneKey(it);
  });

  test('a write that takes longer than two deadlines is waited out by the reset', async () => {
    await using it = await climb([], { rack: { writeMs: 24_000 } });
    expect(it.rungs).toEqual(['dfu-recovery failed', 'usb-reset ok']);
    expect(it.device.photon.record.writes).toEqual([0, 1, 0]);
    await expectOneKey(it);
  });
});

describe('re-enumerate: the device has left the bus, and is waited for at its path', () => {
  test('a cable that bounces while it is read', async () => {
    await using it = await climb(['bounce:upload:2']);
    expect(it.steps.slice(0, 4)).toEqual(['identify ok', 'preflight failed', 're-enumerate ok', 'identify ok']);
    await expectOneKey(it);
  });

  test('a cable that bounces while it is written', async () => {
    await using it = await climb(['bounce:write:1:4000']);
    expect(it.rungs).toEqual(['re-enumerate ok']);
    await expectOneKey(it);
  });

  test('a device that bounces a second time is asked to be replugged', async () => {
    await using it = await climb(['bounce:upload:2', 'bounce:upload:3']);
    expect(it.rungs).toEqual(['re-enumerate ok', 'ask-replug ok']);
    expect(it.settled).toMatchObject({ outcome: 'error', code: 'USB_GONE' });
  });

  test.each([
    ['a stranger', 1, ['IDENTITY_CHANGED'], [0, 0]],
    ['the device of another row, which has its own session', 2, ['IDENTITY_CHANGED', 'USB_GONE'], [0, 1]],
  ])('another device in its socket is not taken for it: %s', async (_, listed, codes, rewrites) => {
    await using station = await Station.open({ keys: 'blank', clock: new LeapingClock(), count: 2 });
    const [first, second] = station.rack.devices;
    const bus = new SocketsBus(station.rack);
    station.rack.unplug(second!.busId);
    const { devices, summary } = await station.run({
      buses: [bus],
      rows: station.rows().slice(0, listed),
      waitMs: 1000,
      onEvent: event => {
        if (event.type === 'step' && event.step === 'new-key' && !second!.plugged) bus.plug(second!, first!.busId);
      },
    });
    const { outcome, code } = devices.get(first!.deviceId)!;
    expect([outcome, codes.includes(code ?? '')]).toEqual(['error', true]);
    expect(summary).toMatchObject({ error: 1, pass: listed - 1, exitCode: 3 });
    expect(rungsOf(await stepsOf(station))[0]).toMatch(/^re-enumerate/);
    expect([first, second].map(device => device!.photon.dctRewrites)).toEqual(rewrites);
  });
});

describe('ask-replug: nothing more can be done from here', () => {
  test.each([
    ['write-stall', 'WRITE_FAILED', ['again ok', 'dfu-recovery ok', 'usb-reset ok', 'ask-replug ok']],
    ['hang:getstatus', 'USB_TIMEOUT', ['dfu-recovery failed', 'usb-reset ok', 'ask-replug ok']],
    ['hang:dnload', 'USB_TIMEOUT', ['dfu-recovery ok', 'usb-reset ok', 'ask-replug ok']],
    ['hang:descriptor', 'USB_TIMEOUT', ['dfu-recovery skipped', 'usb-reset ok', 'ask-replug ok']],
    ['unplug:write', 'USB_GONE', ['re-enumerate failed', 'ask-replug ok']],
    ['descriptor:truncated', 'DESCRIPTOR_INVALID', ['usb-reset ok', 'ask-replug ok']],
  ] as const)('%s, for ever: each rung once, then the hand', async (fault, code, rungs) => {
    await using it = await climb([fault]);
    expect(it.settled).toMatchObject({ code });
    expect(it.settled.hint).toMatch(/replug|unplug|cable/);
    expect(it.rungs).toEqual(rungs);
    expect(it.steps.at(-1)).toBe('ask-replug ok');
    expect(it.device.photon.dctRewrites).toBe(0);
  });

  test('what is told while it works names each rung', async () => {
    await using it = await climb(['write-stall']);
    const told = it.events.flatMap(event => (event.type === 'step' ? [event.step] : []));
    expect(told.filter(step => (RUNGS as readonly string[]).includes(step))).toEqual([
      'again',
      'dfu-recovery',
      'usb-reset',
      'ask-replug',
    ]);
  });

  test('a device that needs every rung, one after the other, passes', async () => {
    await using it = await climb(['write-stall:1', 'hang:upload:5', 'hang-until-reset:upload:6', 'bounce:upload:9']);
    expect(it.rungs).toEqual(['again ok', 'dfu-recovery ok', 'usb-reset ok', 're-enumerate ok']);
    await expectOneKey(it);
  });
});

describe('what nothing changes by trying is never climbed for', () => {
  test.each([
    ['read-unstable', 'READ_UNSTABLE'],
    ['dct-zeros', 'DCT_UNREADABLE'],
    ['serial:0123456789ABCDEF01234567', 'IDENTITY_MISMATCH'],
    ['other-product', 'DEVICE_UNEXPECTED'],
    ['descriptor:transfer-size', 'DEVICE_UNEXPECTED'],
    ['late-access:9000', 'USB_ACCESS'],
    ['start-state:8', 'DEVICE_LEAVING'],
  ] as const)('%s: %s', async (fault, code) => {
    const deviceId = parseDeviceId('0123456789abcdef01234567')!;
    const rows = fault.startsWith('serial') ? [rowOf(deviceId, 2)] : undefined;
    await using station = await Station.open({ keys: 'blank', clock: new LeapingClock(), faults: [`#1:${fault}`] });
    const { devices } = await station.run(rows ? { rows } : {});
    const [settled] = devices.values();
    expect(settled).toMatchObject({ code });
    const { attempts } = await station.history(settled!.deviceId);
    expect(attempts).toHaveLength(1);
    expect(rungsOf(attempts[0]!.steps.map(({ name, state }) => `${name} ${state}`))).toEqual([]);
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(0);
  });

  test.each(['status:403', 'refuse-after-store', 'status:503', 'status:401'])('a cloud that says %s', async fault => {
    await using it = await climb([], { cloud: [fault] });
    expect(it.rungs).toEqual([]);
  });
});

describe('after Ctrl-C', () => {
  /** Ctrl-C at the nth time that this step is begun. */
  function stopAt(step: string): RunSettings {
    const drain = new AbortController();
    return {
      drain: drain.signal,
      onEvent: event => {
        if (event.type === 'step' && event.step === step) drain.abort();
      },
    };
  }

  test('nothing is climbed: a write that was lost is left to the next run, which takes the same key', async () => {
    await using it = await climb(['write-drop:1'], stopAt('verify'));
    expect(it.settled).toMatchObject({ outcome: 'fail', code: 'VERIFY_MISMATCH' });
    expect([it.rungs, it.exitCode]).toEqual([[], 130]);
    const { devices } = await it.station.run({ retryFailed: true });
    await expectOneKey({ ...it, settled: devices.get(it.device.deviceId)! });
  });

  test('nobody waits for a device that has left the bus', async () => {
    await using it = await climb(['bounce:upload:2:4000'], stopAt('re-enumerate'));
    expect(it.settled).toMatchObject({ outcome: 'error', code: 'USB_GONE' });
    expect([it.rungs, it.exitCode]).toEqual([['re-enumerate failed'], 130]);
    expect(it.settled.durationMs).toBeLessThan(1000);
  });

  test('a device that was got back before anything was written is not begun with again', async () => {
    await using it = await climb(['hang:upload:1'], stopAt('dfu-recovery'));
    expect(it.settled).toMatchObject({ outcome: 'aborted', code: 'INTERRUPTED' });
    expect([it.steps.at(-1), it.exitCode]).toEqual(['identify aborted', 130]);
    expect(it.device.photon.dctRewrites).toBe(0);
  });

  test('a device that was got back in the middle of its write goes on to its end', async () => {
    await using it = await climb(['write-stall:1'], stopAt('again'));
    expect([it.rungs, it.exitCode]).toEqual([['again ok'], 130]);
    await expectOneKey(it);
  });
});

describe('a roll-back that fails', () => {
  interface Before {
    readonly key: string | null;
    readonly dct: Buffer;
  }

  async function refused(faults: readonly string[]): Promise<Climb & { readonly old: Before }> {
    let old: Before | undefined;
    const it = await climb(faults, {
      rack: { keys: 'made' },
      cloud: ['status:403'],
      prepare: async station => {
        const dct = await station.dct(0);
        old = { key: classifyPrivateKey(fieldOf(dct, DCT.DEVICE_PRIVATE_KEY)).publicKey?.fingerprint ?? null, dct };
      },
    });
    return { ...it, old: old! };
  }

  /** The old key is back, every byte of it, and the cloud has taken no other. */
  async function expectOldBack({ station, device }: Climb, old: Before): Promise<void> {
    if (!device.onBus) station.rack.plug(device.busId);
    expect(comparable(await station.dct(0)).equals(comparable(old.dct))).toBe(true);
    expect(await station.keyOn(0)).toBe(old.key);
    const { keys, backups } = await station.history(device.deviceId);
    expect(keys).toMatchObject([{ state: 'deactivated', cloud: { state: 'refused', attempts: 1 } }]);
    expect(backups).toHaveLength(1);
    expect(station.cloud.keysOf(device.deviceId)).toEqual([]);
    await expectWhole(station, [old.key]);
  }

  test.each([
    ['write-stall:2', ['again ok']],
    ['write-drop:2', ['again ok']],
    ['write-flip:2', ['again ok']],
    ['hang:write:2', ['again ok']],
    ['hang-until-reset:write:2', ['again ok', 'dfu-recovery failed', 'usb-reset ok']],
    ['bounce:write:2', ['again ok', 're-enumerate ok']],
    ['stuck-busy:2', ['again ok', 'dfu-recovery failed', 'usb-reset ok']],
  ])('%s: the ladder overcomes it, and it ends as refused, with the old key back', async (fault, rungs) => {
    await using it = await refused([fault]);
    expect(it.settled).toMatchObject({
      outcome: 'refused',
      code: 'CLOUD_REFUSED',
      cloud: 'refused',
      fingerprint: it.old.key,
    });
    expect(it.rungs).toEqual(rungs);
    await expectOldBack(it, it.old);
  });

  test.each([
    ['by every write', roundTheLadder('write-stall:2')],
    ['and the device is unplugged when it is tried again', ['write-stall:2', 'unplug:upload:9']],
    ['and the device hangs for ever when it is tried again', ['write-stall:2', ...roundTheLadder('hang:upload:9')]],
    ['in an unplugged cable', ['unplug:write:2']],
  ])('%s stays a roll-back that failed, and the next run finishes it', async (_, faults) => {
    await using it = await refused(faults);
    expect(it.settled).toMatchObject({ outcome: 'fail', code: 'ROLLBACK_FAILED', cloud: 'refused' });
    expect(it.settled.hint).toMatchInlineSnapshot(
      `"the old keys are not back yet: leave the device in DFU mode and run again, which finishes the roll-back"`,
    );
    expect(it.rungs.at(-1)).toBe('ask-replug ok');
    const [{ state } = { state: '' }] = (await it.station.history(it.device.deviceId)).keys;
    expect(state).toBe('active');

    it.station.rack.unplug(it.device.busId);
    it.station.rack.plug(it.device.busId);
    const { devices } = await it.station.run();
    expect(devices.get(it.device.deviceId)).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED' });
    await expectOldBack(it, it.old);
  });

  test('after a block that came out wrong puts the bytes back that were there at first', async () => {
    await using it = await refused(['write-flip:1']);
    expect(it.settled).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED', fingerprint: it.old.key });
    expect(it.rungs).toEqual(['again ok']);
    await expectOldBack(it, it.old);
  });
});

describe('an old bootloader, of which the bus tells nothing', () => {
  test.each([
    ['hang-until-reset:upload:5', ['dfu-recovery failed', 'usb-reset ok']],
    ['hang-until-reset:write', ['dfu-recovery failed', 'usb-reset ok']],
    ['bounce:upload:5', ['re-enumerate ok']],
    ['bounce:write', ['re-enumerate ok']],
    ['bounce:getstatus:10', ['re-enumerate ok']],
  ])('%s: is known again by what is in its DCT', async (fault, rungs) => {
    await using it = await climb([fault, 'old-bootloader']);
    expect(it.rungs).toEqual(rungs);
    await expectOneKey(it);
  });

  test('bounces: what is in the socket then is asked who it is before anything is written', async () => {
    await using station = await Station.open({
      keys: 'blank',
      clock: new LeapingClock(),
      count: 2,
      faults: ['*:old-bootloader'],
    });
    const [first, second] = station.rack.devices;
    const bus = new SocketsBus(station.rack);
    station.rack.unplug(second!.busId);
    const { devices } = await station.run({
      buses: [bus],
      rows: station.rows().slice(0, 1),
      waitMs: 1000,
      onEvent: event => {
        if (event.type === 'step' && event.step === 'new-key' && !second!.plugged) bus.plug(second!, first!.busId);
      },
    });
    expect(devices.get(first!.deviceId)).toMatchObject({ outcome: 'error', code: 'IDENTITY_MISMATCH' });
    expect([first, second].map(device => device!.photon.dctRewrites)).toEqual([0, 0]);
  });
});

describe('a device that hangs while it should leave', () => {
  /** Every answer to a request of the leaving: DNLOAD is the sixth, GETSTATUS the twelfth. */
  const HANGS = ['hang:dnload:6', 'hang:getstatus:9', 'hang-until-reset:dnload:6', 'hang-until-reset:getstatus:9'];

  test.each(HANGS)('%s: leaves at the next try, and its key is sent once', async fault => {
    await using it = await climb([fault]);
    expect(it.steps).toContain('leave failed');
    expect(it.steps.at(-1)).toBe('leave ok');
    await expectOneKey(it);
    expect(it.station.cloud.requestCount).toBe(1);
    expect(await phases(it)).toEqual(['left']);
  });

  test.each(HANGS)('%s: a send that got no answer waits for its time, and is not tried again with it', async fault => {
    await using it = await climb([fault], { cloud: ['retry-after:60'] });
    expect(it.settled).toMatchObject({ outcome: 'pass', cloud: 'pending' });
    expect(it.exitCode).toBe(4);
    expect(it.station.cloud.requestCount).toBe(1);
    expect((await it.station.history(it.device.deviceId)).keys).toMatchObject([
      { state: 'active', cloud: { state: 'pending', attempts: 1 } },
    ]);
    expect(await phases(it)).toEqual(['left']);
  });

  test.each(HANGS)('%s: so it is with a job that sends nothing', async fault => {
    await using it = await climb([fault], {
      job: 'server-key',
      server: { key: 'builtin', host: null, port: null },
    });
    expect(it.settled).toMatchObject({ outcome: 'pass', code: null });
    expect(await phases(it)).toEqual(['left']);
    expect(
      (await it.station.run({ job: 'server-key', server: { key: 'builtin', host: null, port: null } })).summary,
    ).toMatchObject({
      skipped: 1,
      exitCode: 0,
    });
  });

  test('and has vanished by the time it is asked again has left', async () => {
    await using it = await climb(['hang:dnload:6', 'unplug:upload:6']);
    expect(it.steps.slice(-5)).toEqual(['leave failed', 'again ok', 'identify ok', 'preflight failed', 'leave ok']);
    it.station.rack.plug(it.device.busId);
    await expectOneKey(it);
    expect(await phases(it)).toEqual(['left']);
  });

  test.each([
    ['the old bytes are put back', [], 'refused', 'CLOUD_KEY_UNCERTAIN'],
    ['and the cable is pulled in the roll-back: that is what is said', ['unplug:write:2'], 'fail', 'ROLLBACK_FAILED'],
    [
      'and the cable is pulled after a roll-back that failed: it has not left',
      ['write-stall:2', 'unplug:upload:9'],
      'fail',
      'ROLLBACK_FAILED',
    ],
  ] as const)('and whose key a replay beside the run was refused meanwhile: %s', async (_, more, outcome, code) => {
    let asked = 0;
    const clock = new LeapingClock();
    await using it = await climb(['hang:dnload:6', ...more], {
      rack: { clock },
      cloud: ['status:503:1', 'status:403'],
      ledger: real => ({
        ...real,
        async openWrite(deviceId) {
          asked += 1;
          if (asked === 2) await clock.during(refusedBeside(deviceId));
          return real.openWrite(deviceId);
        },
      }),
      prepare: station => {
        beside = station;
        return Promise.resolve();
      },
    });
    expect(it.settled).toMatchObject({ outcome, code, cloud: 'refused' });
    if (code === 'ROLLBACK_FAILED') it.station.rack.plug(it.device.busId);
    const later = await it.station.run();
    expect(later.summary).toMatchObject({ exitCode: 3 });
    expect(await it.station.keyOn(0)).toBeNull();
    expect(await phases(it)).toEqual(['rolled-back']);
    await expectWhole(it.station);
  });

  let beside: Station | null = null;

  async function refusedBeside(deviceId: DeviceId): Promise<void> {
    const { store, clock } = beside!;
    const [due] = await store.call('dueSends', { at: clock.now(), ignoreDue: true, deviceId });
    expect(await beside!.deliverer().deliver(due!.sendId)).toMatchObject({ kind: 'refused' });
  }

  test('for ever: what is said is that it did not leave, and a later run has nothing else to do', async () => {
    await using it = await climb(roundTheLadder('hang:dnload:6'));
    expect(it.settled).toMatchObject({ outcome: 'fail', code: 'LEAVE_FAILED', cloud: 'accepted' });
    expect(it.settled.hint).toMatchInlineSnapshot(`"tap RESET on the device; its key is written and verified"`);
    it.station.rack.unplug(it.device.busId);
    it.station.rack.plug(it.device.busId);
    const { summary, devices } = await it.station.run();
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect((await stepsOf(it.station)).slice(-5)).toEqual([
      'new-key skipped',
      'write skipped',
      'verify skipped',
      'send skipped',
      'leave ok',
    ]);
    await expectOneKey({ ...it, settled: devices.get(it.device.deviceId)! });
  });

  async function phases({ station, device }: Climb): Promise<unknown[]> {
    await Promise.resolve();
    const db = new Database(station.dbPath, { readonly: true });
    try {
      return db.prepare('SELECT phase FROM writes WHERE device_id = ?').pluck().all(device.deviceId);
    } finally {
      db.close();
    }
  }
});
