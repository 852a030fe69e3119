import { execFile } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { localBus } from '#src/usb/webusb.ts';
import { Bench, csvOf, exit } from '../support/cli.ts';
import { udevSettled } from './kernel-bench.ts';
import { type Plugged, RackOnKernel } from './rack-on-kernel.ts';
import { until } from './until.ts';

const UDEVD = '/lib/systemd/systemd-udevd';
const runs = promisify(execFile);

describe('devices that are plugged in later', () => {
  let bench: Bench;
  let rack: RackOnKernel;
  let devices: readonly Plugged[];
  beforeAll(async () => {
    bench = new Bench();
    rack = await RackOnKernel.of(bench, process.env['PHOTON_FLEET_USB_RACK']!);
    devices = rack.devices.slice(0, 3);
    await rack.start();
  });
  afterAll(async () => {
    await rack.stop();
    await bench[Symbol.asyncDispose]();
  });

  test('are told of by udev’s event; without its daemon there is none, and a look at the bus finds them', async () => {
    const [first, second] = devices;
    const bus = localBus();
    let events = 0;
    bus.onChange(() => {
      events += 1;
    });
    try {
      await bus.list();
      await rack.plugIn([first!]);
      await until('udev to tell of the first device', () => events > 0);
      await udevSettled();
      const told = events;
      await withoutUdevd(async () => {
        await rack.plugIn([second!]);
        const paths = (await bus.list()).map(({ path }) => path as string);
        expect(paths).toEqual(expect.arrayContaining([first!.path, second!.path]));
        expect(events).toBe(told);
      });
    } finally {
      await bus.close();
      await rack.stop();
    }
  });

  test('are worked on by a run that has begun: first by event, then with udev’s daemon stopped', async () => {
    await rack.start();
    const [first, second, third] = devices;
    await rack.plugIn([first!]);
    const manifest = bench.file('rack.csv', csvOf(devices));
    const child = bench.start(['run', manifest, '--job', 'backup', '--wait', '60', '--json']);
    const settled: string[] = [];
    createInterface(child.stdout!).on('line', line => {
      const { type, deviceId, outcome } = JSON.parse(line) as Record<string, string>;
      if (type === 'device') settled.push(`${deviceId!} ${outcome!}`);
    });
    await until('the first device', () => settled.length === 1);
    await rack.plugIn([second!]);
    await until('the second device', () => settled.length === 2);
    await withoutUdevd(async () => {
      await rack.plugIn([third!]);
      await until('the third device', () => settled.length === 3);
    });
    expect(await exit(child)).toBe(0);
    expect(settled).toEqual(devices.map(({ deviceId }) => `${deviceId} pass`));
  });
});

async function withoutUdevd(act: () => Promise<void>): Promise<void> {
  await runs('udevadm', ['control', '--exit']); // and wait for it
  try {
    await act();
  } finally {
    await runs(UDEVD, ['--daemon']);
  }
}
