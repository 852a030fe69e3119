import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeModule, SYSTEM_PART_1, SYSTEM_PART_2 } from '#src/sim/photon-modules.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { serveRack, type RackServer } from '#src/sim/usbip-server.ts';
import { startVirtualCloud, type VirtualCloud } from '#src/sim/virtual-cloud.ts';
import { createRack, type VirtualRack } from '#src/sim/virtual-rack.ts';
import { Bench, csvOf, jsonLines, type Ended } from '../support/cli.ts';
import { dfuRead, eachOf } from './programs.ts';
import { until } from './until.ts';
import { allUnplugged, keepPluggedIn, kernelDevices, pathOf, type Place } from './vhci.ts';

/*
 * Firmware below a real kernel: flashed by the real program, read back by dfu-util; and the road from normal mode into
 * DFU mode and back, with the kernel enumerating each device anew.
 */

const COUNT = 16;
const HUBS = 4;
const TOKEN = 'token-of-the-usb-tests';
/** Device OS 0.8.0 or so, and a newer one. */
const [OLD, NEW] = [304, 310];
/** How many of them are re-keyed: in the guest each key takes a third of a second. */
const KEYED = 4;

const part = (start: number, index: number): Buffer =>
  makeModule({ start, sizeBytes: 12_288, platform: 'photon', fn: 4, index, version: NEW });

describe('sixteen devices, of which one is broken', () => {
  let bench: Bench;
  let cloud: VirtualCloud;
  let rack: VirtualRack;
  let server: RackServer;
  let letGo: () => Promise<void>;
  let places: readonly { busId: string; place: Place; path: string }[];
  const parts = { 'part1.bin': part(SYSTEM_PART_1, 1), 'part2.bin': part(SYSTEM_PART_2, 2) };

  beforeAll(async () => {
    bench = new Bench();
    cloud = await startVirtualCloud({ token: TOKEN, handshake: true });
    const { serverKey } = cloud.handshake!;
    rack = await createRack({
      count: COUNT,
      hubs: HUBS,
      writeMs: 100,
      keys: 'blank',
      boots: true,
      systemVersion: OLD,
      serverKey,
      serverAddress: cloud.handshake!,
      faults: [parseFault('#5:dct-zeros')],
    });
    server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
    places = await Promise.all(
      rack.devices.map(async ({ busId }, nth) => {
        const place = { hub: nth % HUBS, port: Math.floor(nth / HUBS) };
        return { busId, place, path: await pathOf(place) };
      }),
    );
    letGo = keepPluggedIn(rack, server, places);
    await until('all devices on the bus', async () => (await kernelDevices()).length === COUNT);
    for (const [name, bytes] of Object.entries(parts)) bench.file(name, bytes);
    bench.file('all.csv', csvOf(rack.devices));
    bench.file('some.csv', csvOf(rack.devices.slice(0, KEYED)));
    const options = '      system-part1: ./part1.bin\n      system-part2: ./part2.bin\n';
    bench.file('flash.yaml', `name: flash\ndescription: both parts\nsteps:\n  - identify\n  - firmware:\n${options}`);
  });

  afterAll(async () => {
    await letGo();
    await server.close();
    await rack.close();
    await cloud.close();
    await allUnplugged();
    await bench[Symbol.asyncDispose]();
  });

  const run = (args: readonly string[]): Promise<Ended> =>
    bench.run(['run', ...args, '--enter-dfu', '--wait', '60', '--json'], {
      PARTICLE_ACCESS_TOKEN: TOKEN,
      PHOTON_FLEET_CLOUD_URL: cloud.url,
    });
  const summaryOf = ({ stdout, stderr }: Ended): unknown => jsonLines(stdout).at(-1) ?? stderr;

  test('get both system parts in one run, start anew, and are back in DFU mode', async () => {
    expect(summaryOf(await run(['all.csv', '--job', './flash.yaml']))).toMatchObject({ pass: COUNT, exitCode: 0 });
    for (const { photon, mode } of rack.devices) expect([mode, photon.record.violations]).toEqual(['dfu', []]);
  });

  test('have them, byte for byte, as dfu-util reads them', async () => {
    const wanted = [
      [SYSTEM_PART_1, parts['part1.bin']],
      [SYSTEM_PART_2, parts['part2.bin']],
    ] as const;
    const same = await eachOf(places, async ({ path }) => {
      for (const [address, bytes] of wanted) {
        if (!(await dfuRead(path, address, bytes.length, 0)).equals(bytes)) return false;
      }
      return true;
    });
    expect(same).toEqual(places.map(() => true));
  });

  test('are re-keyed, shake hands with the cloud over TCP before they leave, and run', async () => {
    const ended = await run(['some.csv', '--prove', '--confirm', 'normal']);
    expect(summaryOf(ended)).toMatchObject({ pass: KEYED, exitCode: 0 });
    const running = rack.devices.filter(({ mode }) => mode === 'normal').map(({ index }) => index);
    expect(running).toEqual([1, 2, 3, 4]);
  });

  test('are switched from normal mode, and re-keyed once more; nobody else is', async () => {
    const others = rack.devices.slice(KEYED).map(({ appearance }) => appearance);
    const ended = await run(['some.csv', '--again', '--confirm', 'normal']);
    expect(summaryOf(ended)).toMatchObject({ pass: KEYED, exitCode: 0 });
    expect(rack.devices.slice(KEYED).map(({ appearance }) => appearance)).toEqual(others);
    for (const { deviceId } of rack.devices.slice(0, KEYED)) expect(cloud.keysOf(deviceId)).toHaveLength(2);
  });
});
