import { describe, expect, test } from 'vitest';
import type { DeviceId } from '#src/core/device-id.ts';
import type { RunEvent } from '#src/core/events.ts';
import { Sockets } from '#src/fleet/sockets.ts';
import type { RackDevice } from '#src/sim/rack-device.ts';
import { breaches } from '../support/audit.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { SocketsBus } from '../support/sockets-bus.ts';
import { pathOf, Station, type RunResult, type RunSettings } from '../support/station.ts';

describe('device or socket', () => {
  const [ONE, TWO, THREE] = ['1-1.1', '1-1.2', '1-1.3'].map(pathOf) as [never, never, never];
  const [ann, ben, cleo, dan] = ['ann', 'ben', 'cleo', 'dan'] as unknown as [DeviceId, DeviceId, DeviceId, DeviceId];

  test('one failure says nothing of either', () => {
    const sockets = new Sockets();
    expect(sockets.isBad(ONE)).toBe(false);
    expect(sockets.failed(ONE, ann, [])).toEqual({ elsewhere: null, socketTurnedBad: false });
    expect(sockets.isBad(ONE)).toBe(false);
  });

  test('a device that fails twice in one socket says nothing of the socket', () => {
    const sockets = new Sockets();
    sockets.failed(ONE, ann, []);
    expect(sockets.failed(ONE, ann, [ONE])).toEqual({ elsewhere: null, socketTurnedBad: false });
    expect(sockets.isBad(ONE)).toBe(false);
  });

  test('a socket in which two devices fail is bad, which is found once', () => {
    const sockets = new Sockets();
    sockets.failed(ONE, ann, []);
    expect(sockets.failed(ONE, ben, [])).toEqual({ elsewhere: null, socketTurnedBad: true });
    expect(sockets.failed(ONE, cleo, [])).toEqual({ elsewhere: null, socketTurnedBad: false });
    expect([sockets.isBad(ONE), sockets.isBad(TWO)]).toEqual([true, false]);
  });

  test('failures in different sockets say nothing of any of them', () => {
    const sockets = new Sockets();
    sockets.failed(ONE, ann, []);
    expect(sockets.failed(TWO, ben, [])).toEqual({ elsewhere: null, socketTurnedBad: false });
    expect([sockets.isBad(ONE), sockets.isBad(TWO)]).toEqual([false, false]);
  });

  test('a device that fails in two sockets is bad, and counts against neither of them', () => {
    const sockets = new Sockets();
    sockets.failed(ONE, ann, []);
    expect(sockets.failed(TWO, ann, [])).toEqual({ elsewhere: ONE, socketTurnedBad: false });
    expect(sockets.failed(ONE, ben, [])).toEqual({ elsewhere: null, socketTurnedBad: false });
    expect(sockets.failed(TWO, cleo, [])).toEqual({ elsewhere: null, socketTurnedBad: false });
    expect([sockets.isBad(ONE), sockets.isBad(TWO)]).toEqual([false, false]);
  });

  test('earlier attempts in another socket tell the same', () => {
    const sockets = new Sockets();
    sockets.failed(ONE, ann, []);
    expect(sockets.failed(ONE, ben, [TWO, ONE])).toEqual({ elsewhere: TWO, socketTurnedBad: false });
    expect(sockets.isBad(ONE)).toBe(false);
    expect(sockets.failed(ONE, cleo, [ONE])).toEqual({ elsewhere: null, socketTurnedBad: true });
  });

  test('a socket that is bad stays so in this run, whoever fails there or elsewhere later', () => {
    const sockets = new Sockets();
    sockets.failed(ONE, ann, []);
    sockets.failed(ONE, ben, []);
    sockets.failed(THREE, ben, []);
    expect(sockets.failed(ONE, dan, [])).toEqual({ elsewhere: null, socketTurnedBad: false });
    expect(sockets.isBad(ONE)).toBe(true);
  });
});

const FIRST = 0;

/** A rack of which one device after the other hangs in the first socket, all the others in none. */
class Bench implements AsyncDisposable {
  readonly station: Station;
  readonly bus: SocketsBus;

  private constructor(station: Station) {
    this.station = station;
    this.bus = new SocketsBus(station.rack);
    for (const { busId } of station.rack.devices.slice(1)) station.rack.unplug(busId);
  }

  static async open(count: number, faults: readonly string[]): Promise<Bench> {
    return new Bench(await Station.open({ count, keys: 'blank', clock: new LeapingClock(), faults }));
  }

  device(index: number): RackDevice {
    return this.station.rack.devices[index]!;
  }

  /** The socket that this device has in its rack. */
  socket(index: number): RackDevice['busId'] {
    return this.device(index).busId;
  }

  /** A run in which, whenever a row is settled, the hand plugs the next device in. */
  async run(
    order: readonly (readonly [device: number, socket: number])[],
    settings: RunSettings = {},
  ): Promise<RunResult> {
    const next = [...order];
    const hand = (event: RunEvent): void => {
      if (event.type !== 'device' || event.outcome === 'skipped' || event.outcome === 'unseen') return;
      const move = next.shift();
      if (move) this.bus.plug(this.device(move[0]), this.socket(move[1]));
    };
    const result = await this.station.run({ buses: [this.bus], waitMs: 10_000, ...settings, onEvent: hand });
    expect(next).toEqual([]);
    expect(this.station.rack.devices.filter(({ held }) => held)).toEqual([]);
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    expect(await breaches(this.station.dbPath, this.station.vault, [])).toEqual([]);
    await this.station[Symbol.asyncDispose]();
  }
}

function notesOf({ events }: RunResult): string[] {
  return events.flatMap(event => (event.type === 'note' ? [event.message] : []));
}

/** How much it was asked in all. */
function askedOf({ photon }: RackDevice): number {
  return Object.values(photon.record.counts).reduce((sum, count) => sum + count);
}

describe('a socket in which different devices fail', () => {
  test('is said to be bad, and takes no more devices in this run', async () => {
    await using bench = await Bench.open(4, ['#1:write-stall', '#2:read-unstable']);
    const result = await bench.run([
      [1, FIRST],
      [2, FIRST],
      [3, 3],
    ]);
    const [one, two, three, four] = bench.station.rack.devices.map(({ deviceId }) => result.devices.get(deviceId)!);
    expect(one).toMatchObject({ outcome: 'fail', code: 'WRITE_FAILED', path: '1-1.1' });
    expect(two).toMatchObject({ outcome: 'fail', code: 'READ_UNSTABLE', path: '1-1.1' });
    expect(three).toMatchObject({ outcome: 'error', code: 'SOCKET_BAD', path: '1-1.1', cloud: 'none' });
    expect(three!.message).toMatchInlineSnapshot(
      `"different devices failed in the socket 1-1.1: it takes no more of them"`,
    );
    expect(three!.hint).toMatchInlineSnapshot(
      `"put the device into another socket and run again; look at this one’s cable, hub and power"`,
    );
    expect(notesOf(result)).toMatchInlineSnapshot(`
      [
        "different devices failed in the socket 1-1.1: it takes no more of them in this run",
      ]
    `);
    expect(askedOf(bench.device(2))).toBe(0);
    expect(four).toMatchObject({ outcome: 'pass', path: '1-1.4' });
    expect(result.summary).toMatchObject({ pass: 1, fail: 2, error: 1, exitCode: 3 });
    await expect(bench.station.history(bench.device(2).deviceId)).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' });
  });

  test('is only asked who hangs there, where the bus does not tell, and has nothing written', async () => {
    await using bench = await Bench.open(3, ['#1:write-stall', '#2:write-stall', '*:old-bootloader']);
    const { devices } = await bench.run([
      [1, FIRST],
      [2, FIRST],
    ]);
    expect(devices.get(bench.device(2).deviceId)).toMatchObject({ outcome: 'error', code: 'SOCKET_BAD' });
    expect(bench.device(2).photon.record.writes).toEqual([0, 0, 0]);
  });

  test('works again in the next run, and the device that it did not take passes there', async () => {
    await using bench = await Bench.open(3, ['#1:write-stall', '#2:write-stall']);
    await bench.run([
      [1, FIRST],
      [2, FIRST],
    ]);
    const { summary, devices } = await bench.run([]);
    expect(devices.get(bench.device(2).deviceId)).toMatchObject({ outcome: 'pass', path: '1-1.1' });
    expect(summary).toMatchObject({ pass: 1, skipped: 2, exitCode: 3 });
  });

  test('is bad for cables that come off too', async () => {
    await using bench = await Bench.open(3, ['#1:unplug:write', '#2:unplug:upload:2']);
    const { devices } = await bench.run([
      [1, FIRST],
      [2, FIRST],
    ]);
    expect([...devices.values()].map(({ outcome, code }) => [outcome, code])).toEqual([
      ['error', 'USB_GONE'],
      ['error', 'USB_GONE'],
      ['error', 'SOCKET_BAD'],
    ]);
  });

  test('is not bad for what the station is to blame for', async () => {
    await using bench = await Bench.open(4, ['#1:late-access:60000', '#2:late-access:60000', '#3:write-stall']);
    const result = await bench.run([
      [1, FIRST],
      [2, FIRST],
      [3, FIRST],
    ]);
    expect([...result.devices.values()].map(({ code }) => code)).toEqual([
      'USB_ACCESS',
      'USB_ACCESS',
      'WRITE_FAILED',
      null,
    ]);
    expect(notesOf(result)).toEqual([]);
  });

  test('does not count one that fails once and passes at the second try', async () => {
    await using bench = await Bench.open(3, ['#1:write-stall:1', '#2:hang:getstatus:1', '#3:bounce:write']);
    const { summary } = await bench.run([
      [1, FIRST],
      [2, FIRST],
    ]);
    expect(summary).toMatchObject({ pass: 3, exitCode: 0 });
  });
});

describe('a device that failed in two sockets', () => {
  test('ends as fail, is told where else, and does not count against the socket', async () => {
    const faults = ['#1:read-unstable', '#2:unplug:write:1', '#2:unplug:write:2', '#3:write-stall'];
    await using bench = await Bench.open(4, faults);
    const rows = bench.station.rows();
    // An earlier run, with the second device in its own socket.
    bench.station.rack.plug(bench.socket(1));
    const first = await bench.run([], { rows: rows.slice(1, 2) });
    expect(first.devices.get(bench.device(1).deviceId)).toMatchObject({ outcome: 'error', code: 'USB_GONE' });

    const result = await bench.run(
      [
        [1, FIRST],
        [2, FIRST],
        [3, FIRST],
      ],
      { rows },
    );
    const [one, two, three, four] = rows.map(({ deviceId }) => result.devices.get(deviceId)!);
    expect(one).toMatchObject({ outcome: 'fail', code: 'READ_UNSTABLE' });
    expect(two).toMatchObject({ outcome: 'fail', code: 'USB_GONE', path: '1-1.1' });
    expect(two!.message).toMatchInlineSnapshot(
      `"1-1.1: the device left the bus; it failed at 1-1.2 before, so the device is bad, not the socket"`,
    );
    expect(two!.hint).toMatchInlineSnapshot(`"take it off the rack: it failed in two sockets"`);
    // Only now have two devices failed there of which nothing else is known.
    expect(three).toMatchObject({ outcome: 'fail', code: 'WRITE_FAILED' });
    expect(four).toMatchObject({ outcome: 'error', code: 'SOCKET_BAD' });
    expect(notesOf(result)).toHaveLength(1);
    const { attempts, failures } = await bench.station.history(bench.device(1).deviceId);
    expect(attempts.map(({ outcome, code, path }) => [outcome, code, path])).toEqual([
      ['error', 'USB_GONE', '1-1.2'],
      ['fail', 'USB_GONE', '1-1.1'],
    ]);
    expect(failures).toBe(2);
  });
});
