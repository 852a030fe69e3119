import { describe, expect, test } from 'vitest';
import { systemClock } from '#src/core/clock.ts';
import { isInNormalMode } from '#src/session/normal-mode.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import { serveRack } from '#src/sim/usbip-server.ts';
import type { UsbBus } from '#src/usb/port.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { pathOf, Station, type StationRack } from '../support/station.ts';

/* Listed devices that run their firmware are switched into DFU mode, if that is allowed; and seen to run when they have left. */

const BOOTS = { boots: true, bootMs: 300, resetMs: 1000 } as const;

/** A rack whose devices have all been through a run, and run their firmware. */
async function running(rack: StationRack = {}, row: Parameters<Station['rows']>[0] = {}): Promise<Station> {
  const station = await Station.open({ ...BOOTS, clock: new LeapingClock(), ...rack });
  const { summary } = await station.run({ rows: station.rows(row) });
  expect(summary.pass).toBe(summary.rows);
  const up = station.clock.monotonicMs() + 2000;
  while (station.clock.monotonicMs() < up) await station.clock.sleep(100);
  return station;
}

const WAIT = { waitMs: 5000 } as const;
const stepsOf = (events: readonly { type: string }[], id: string): string[] =>
  events
    .filter(event => event.type === 'step')
    .map(event => event as unknown as { deviceId: string; step: string })
    .filter(({ deviceId }) => deviceId === id)
    .map(({ step }) => step);

/** Its devices take so long to say who they are that whoever else asks meanwhile is met. */
function slowToTell(bus: UsbBus): UsbBus {
  return {
    name: bus.name,
    onChange: listener => bus.onChange(listener),
    close: () => bus.close(),
    async list() {
      const ports = await bus.list();
      for (const port of ports) {
        const ask = port.controlTransferIn.bind(port);
        port.controlTransferIn = async (...asked) => {
          if (isInNormalMode(port)) await systemClock.sleep(150);
          return ask(...asked);
        };
      }
      return ports;
    },
  };
}

describe('a listed device in normal mode', () => {
  test.each([
    ['the service protocol', 300],
    ['the vendor request', 207],
  ])('is switched by %s, and re-keyed; one that no row lists is not even opened', async (_, systemVersion) => {
    await using station = await running({ count: 3, systemVersion });
    const rows = station.rows().slice(0, 2);
    const stranger = station.rack.devices[2]!;
    const [mode, appearance, asked] = [stranger.mode, stranger.appearance, stranger.photon.record.counts.other];
    const { summary, events } = await station.run({ rows, enterDfu: true, manifest: '/two.csv', ...WAIT });
    expect(summary).toMatchObject({ rows: 2, pass: 2, exitCode: 0 });
    for (const { deviceId } of rows) expect(stepsOf(events, deviceId)[0]).toBe('enter-dfu');
    expect([stranger.mode, stranger.appearance, stranger.photon.record.counts.other]).toEqual([
      mode,
      appearance,
      asked,
    ]);
    expect(mode).toBe('normal');
  });

  test('is left alone without the flag, and said where it is', async () => {
    await using station = await running();
    const { appearance } = station.rack.devices[0]!;
    const { devices } = await station.run({ manifest: '/two.csv', ...WAIT });
    expect(devices.get(station.id(0))).toMatchObject({
      outcome: 'unseen',
      code: 'NOT_SEEN',
      message: 'it never appeared in DFU mode; it is in normal mode at 1-1.1',
      hint: expect.stringContaining('--enter-dfu') as string,
    });
    expect(station.rack.devices[0]!.appearance).toBe(appearance);
  });

  test('with an old bootloader and no ID in its DCT is known by the path at which it said who it is', async () => {
    await using station = await running(
      { faults: ['#1:old-bootloader', '#1:no-dct-id'] },
      { port: pathOf('1-1.1') }, // in DFU mode nothing else tells it
    );
    const { summary } = await station.run({ enterDfu: true, manifest: '/two.csv', ...WAIT });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
  });

  test('that refuses both ways fails, with what the hand can do', async () => {
    await using station = await running({ faults: ['#1:deaf'] });
    const { devices } = await station.run({ enterDfu: true, manifest: '/two.csv', ...WAIT });
    expect(devices.get(station.id(0))).toMatchObject({
      outcome: 'fail',
      code: 'ENTER_DFU_REFUSED',
      path: '1-1.1',
      hint: expect.stringContaining('hold SETUP') as string,
    });
  });

  test('is switched only as far as --limit lets', async () => {
    await using station = await running({ count: 3, systemVersion: 300 });
    const { summary } = await station.run({ enterDfu: true, limit: 1, manifest: '/two.csv', ...WAIT });
    expect(summary).toMatchObject({ pass: 1, skipped: 2 });
    expect(station.rack.devices.filter(({ appearance }) => appearance > 6)).toHaveLength(1);
  });

  test('that is through, as the record knows, is settled and not switched', async () => {
    const clock = new LeapingClock();
    await using station = await Station.open({ ...BOOTS, clock, systemVersion: 300 });
    await expect(station.run({ cutBeforeSettling: true })).rejects.toThrow('cut');
    const up = clock.monotonicMs() + 2000;
    while (clock.monotonicMs() < up) await clock.sleep(100);
    const { appearance, mode } = station.rack.devices[0]!;
    const { summary } = await station.run({ enterDfu: true, ...WAIT });
    expect([summary.pass, mode, station.rack.devices[0]!.appearance]).toEqual([1, 'normal', appearance]);
  });

  test('of a Device OS that knows neither way has its serial port touched, where the host has one', async () => {
    await using station = await running({ systemVersion: 104 });
    const sim = simBus(station.rack);
    const touched: string[] = [];
    const bus: UsbBus = {
      ...sim,
      async list() {
        const ports = await sim.list();
        for (const port of ports) {
          port.touchSerial = () => {
            touched.push(port.path);
            station.rack.enterDfu(port.path); // as its Device OS does
            return Promise.resolve(true);
          };
        }
        return ports;
      },
    };
    const { summary } = await station.run({ enterDfu: true, manifest: '/two.csv', buses: [bus], ...WAIT });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(touched).toEqual(['1-1.1']);
  });

  test('in another socket than its row says is left alone', async () => {
    await using station = await running();
    const rows = station.rows({ port: pathOf('9-9') });
    const { appearance } = station.rack.devices[0]!;
    const { devices } = await station.run({ rows, enterDfu: true, manifest: '/two.csv', ...WAIT });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'IDENTITY_MISMATCH' });
    expect(station.rack.devices[0]!.appearance).toBe(appearance);
  });

  test('is switched over USB/IP too, where it has to be opened to say who it is', async () => {
    await using station = await Station.open({ ...BOOTS, bootMs: 5, resetMs: 20, count: 2 });
    const server = await serveRack(station.rack, { host: '127.0.0.1', port: 0 });
    const bus = slowToTell(rackBus({ host: '127.0.0.1', port: server.port }));
    expect((await station.run({ confirm: 'normal', enterDfu: true, buses: [bus], waitMs: 20_000 })).summary.pass).toBe(
      2,
    );
    const { summary } = await station.run({
      enterDfu: true,
      confirm: 'normal',
      manifest: '/two.csv',
      buses: [bus],
      waitMs: 20_000,
    });
    expect(summary).toMatchObject({ pass: 2, exitCode: 0 });
    await bus.close();
    await server.close();
  });
});

describe('--confirm normal', () => {
  test('a device that runs its firmware passes, and the step is on record', async () => {
    await using station = await Station.open({ ...BOOTS, clock: new LeapingClock() });
    const { summary } = await station.run({ confirm: 'normal' });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    const [attempt] = (await station.history(station.id(0))).attempts;
    expect(attempt?.steps.at(-1)).toMatchObject({ name: 'confirm-normal', state: 'ok' });
  });

  test('one that does not come back fails, though its key is accepted', async () => {
    await using station = await Station.open({ ...BOOTS, clock: new LeapingClock(), faults: ['#1:no-boot'] });
    const { devices, summary } = await station.run({ confirm: 'normal' });
    expect(devices.get(station.id(0))).toMatchObject({
      outcome: 'fail',
      code: 'NOT_RUNNING',
      cloud: 'accepted',
      message: expect.stringContaining('not on the bus in normal mode') as string,
    });
    expect(summary.exitCode).toBe(3);
  });
});
