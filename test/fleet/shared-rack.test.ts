import { describe, expect, test } from 'vitest';
import { Asked } from '#src/fleet/asked.ts';
import { BusWatch } from '#src/fleet/bus-watch.ts';
import { climb } from '#src/session/climb.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import type { UsbBus } from '#src/usb/port.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { ScriptedPort } from '../support/scripted-port.ts';
import { sharedBus } from '../support/shared-bus.ts';
import { SocketsBus } from '../support/sockets-bus.ts';
import { pathOf, rowOf, Station } from '../support/station.ts';

const NOBODY = '0123456789abcdef01234567' as never;
const RUNS = [0, 1, 2, 3];
const ROWS_EACH = 5;
const STRANGERS = 4;
const WAIT_MS = 20_000;
/** A run that has not come to its end by then is asked to stop. */
const TOO_LONG_MS = 300_000;

describe('several runs at once on one rack, over which a device has to be opened to be known', () => {
  test.each(['rekey', 'backup'])('%s: all pass their rows, and end once nobody came for long enough', async job => {
    const clock = new LeapingClock();
    const count = RUNS.length * ROWS_EACH + STRANGERS;
    await using rack = await Station.open({ count, hubs: 4, clock, faults: ['*:old-bootloader'] });
    const runs = RUNS.map(async run => {
      await using station = await clock.during(Station.open({ clock }));
      const drain = new AbortController();
      const over = new AbortController();
      let began = 0;
      let begin = (): void => undefined;
      void clock.during(new Promise<void>(resolve => (begin = resolve))); // the record is opened in real time
      const { summary } = await station.run({
        rows: [...rack.rows().slice(run * ROWS_EACH, (run + 1) * ROWS_EACH), rowOf(NOBODY, 99)],
        job,
        buses: [sharedBus(rack.rack, clock)],
        waitMs: WAIT_MS,
        concurrency: 16,
        drain: drain.signal,
        onEvent: ({ type }) => {
          if (type !== 'run-started') return;
          began = clock.monotonicMs();
          void clock.sleep(TOO_LONG_MS, over.signal).then(() => drain.abort());
          begin();
        },
      });
      over.abort();
      const { pass, unseen, exitCode } = summary;
      return { pass, unseen, exitCode, isLong: clock.monotonicMs() - began > WAIT_MS + 30_000 };
    });
    const expected = { pass: ROWS_EACH, unseen: 1, exitCode: 3, isLong: false };
    expect(await Promise.all(runs)).toEqual(RUNS.map(() => expected));
  });

  test('a listed device in a socket where a stranger was is picked up at the next look', async () => {
    const clock = new LeapingClock();
    await using station = await Station.open({ count: 2, clock });
    const [stranger, listed] = station.rack.devices;
    const hand = new SocketsBus(station.rack);
    station.rack.unplug(listed!.busId);
    let toldMs = 0;
    const { devices } = await station.run({
      rows: [rowOf(listed!.deviceId, 2)],
      job: 'backup',
      buses: [sharedBus(station.rack, clock, hand)],
      waitMs: WAIT_MS,
      onEvent: ({ type }) => {
        if (type !== 'stranger') return;
        toldMs = clock.monotonicMs();
        hand.plug(listed!, pathOf(stranger!.busId));
      },
    });
    expect(devices.get(listed!.deviceId)).toMatchObject({ outcome: 'pass', path: stranger!.busId });
    expect(clock.monotonicMs() - toldMs).toBeLessThan(3000);
  });

  test('a device that another program holds is asked again once that one has given it back', async () => {
    const clock = new LeapingClock();
    await using station = await Station.open({ clock, faults: ['#1:old-bootloader'] });
    const device = station.rack.devices[0]!;
    const giveBack = device.hold()!;
    const { devices, events } = await station.run({
      job: 'backup',
      waitMs: WAIT_MS,
      onEvent: ({ type }) => {
        if (type === 'stranger') void clock.sleep(5000).then(giveBack);
      },
    });
    expect(devices.get(device.deviceId)).toMatchObject({ outcome: 'pass' });
    expect(events.filter(({ type }) => type === 'stranger')).toMatchObject([{ code: 'USB_BUSY' }]);
  });
});

describe('a device that was asked who it is', () => {
  const pauses = (asked: Asked, clock: QuickClock, port: ScriptedPort): number => {
    const before = clock.monotonicMs();
    while (asked.isPausing(port)) void clock.sleep(100);
    return clock.monotonicMs() - before;
  };

  test('is left in peace for longer and longer while it stays the same', () => {
    const clock = new QuickClock();
    const asked = new Asked(clock);
    const port = new ScriptedPort();
    const found = Array.from({ length: 8 }, () => [asked.note(port, 'ann'), pauses(asked, clock, port)]);
    expect(found).toEqual([[true, 500], ...[1000, 2000, 4000, 8000, 15_000, 15_000, 15_000].map(ms => [false, ms])]);
  });

  test('is asked anew where it turns out to be another one, or was replugged', () => {
    const clock = new QuickClock();
    const asked = new Asked(clock);
    const port = new ScriptedPort();
    for (let time = 0; time < 4; time += 1) asked.note(port, 'ann');
    expect([asked.note(port, 'ben'), pauses(asked, clock, port)]).toEqual([true, 500]);
    asked.note(port, 'ben');
    const replugged = Object.assign(new ScriptedPort(), { instance: 'another' });
    expect([asked.knows(port), asked.knows(replugged), asked.isPausing(replugged)]).toEqual([true, false, false]);
    expect([asked.note(replugged, 'ben'), pauses(asked, clock, replugged)]).toEqual([true, 500]);
  });
});

describe('a look at the bus that a silent device holds up', () => {
  test('is waited for: another device at its path, reset meanwhile, is found all the same', async () => {
    const clock = new LeapingClock();
    await using station = await Station.open({ clock });
    const bus = simBus(station.rack);
    let isSlow = false;
    const slow: UsbBus = {
      ...bus,
      async list() {
        if (isSlow) await clock.sleep(5500);
        return bus.list();
      },
    };
    const watch = new BusWatch([slow], clock, {
      greet: () => 'take',
      onArrived: () => undefined,
      onTrouble: () => undefined,
    });
    await watch.start();
    isSlow = true;
    const path = station.rack.devices[0]!.busId;
    await clock.sleep(1200); // a look has begun
    const since = clock.monotonicMs();
    expect(watch.find(path, since)).toBeUndefined();
    const [port] = await bus.list();
    const findAgain = (sinceMs: number): ReturnType<BusWatch['find']> => watch.find(path, sinceMs);
    const drain = new AbortController().signal;
    const grip = await climb('re-enumerate', { port: port!, device: undefined }, { clock, findAgain, drain });
    expect(grip?.port.path).toBe(path);
    expect(clock.monotonicMs() - since).toBeGreaterThan(5500);
    station.rack.unplug(path);
    const gone = await climb('re-enumerate', { port: port!, device: undefined }, { clock, findAgain, drain });
    expect(gone).toBeNull();
    await watch.close();
    await bus.close();
  });
});
