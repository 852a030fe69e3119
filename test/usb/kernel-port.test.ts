import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '#src/core/clock.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import type { UsbPort } from '#src/usb/port.ts';
import { localBus } from '#src/usb/webusb.ts';
import { usbPortContract } from '../contract/usb-port.contract.ts';
import { KernelBench, udevSettled } from './kernel-bench.ts';
import { NoisyCable } from './noisy-cable.ts';
import { until } from './until.ts';
import { kernelDevices, pathOf, plugIn } from './vhci.ts';

const GET_STATUS = { requestType: 'class', recipient: 'interface', request: 3, value: 0, index: 0 } as const;

usbPortContract('the bus of a real Linux kernel', () => KernelBench.make());

describe('this machine’s bus', () => {
  let bench: KernelBench;
  let ports: UsbPort[];
  beforeEach(async () => {
    bench = await KernelBench.make();
    ports = await bench.bus.list();
  });
  afterEach(async () => {
    await bench.close();
  });

  test('says of each device what the kernel says: path, hub, number, release and serial', async () => {
    const found = ports.map(({ path, hub, instance, release, serialNumber }) => ({
      path,
      hub,
      instance,
      release,
      serialNumber,
    }));
    const expected = (await kernelDevices()).map(({ path, number, release, serial }) => ({
      path,
      hub: `usb${path.split('-')[0]!}`,
      instance: String(number),
      release,
      serialNumber: serial,
    }));
    expect(found).toEqual(expected);
    expect(found.map(({ path }) => path)).toEqual(await Promise.all([0, 1].map(hub => pathOf({ hub, port: 0 }))));
  });

  test('is looked at anew only where somebody came, or came back', async () => {
    const bus = localBus();
    const place = { hub: 2, port: 0 };
    const path = await pathOf(place);
    const [first] = await bus.list();
    expect((await bus.list())[0]).toBe(first);
    const added = await bench.rack.add();
    await plugIn(bench.server, [{ busId: added.busId, place }]);
    const withAdded = await bus.list();
    const there = withAdded.find(port => port.path === path)!;
    expect(withAdded).not.toContain(first);
    bench.rack.unplug(added.busId);
    await until('it to leave', async () => !(await kernelDevices()).some(device => device.path === path));
    const left = await bus.list();
    expect(left).toHaveLength(withAdded.length - 1);
    expect(left.every(port => withAdded.includes(port))).toBe(true);
    bench.rack.plug(added.busId);
    await plugIn(bench.server, [{ busId: added.busId, place }]);
    const back = (await bus.list()).find(port => port.path === path)!;
    expect(back.instance).not.toBe(there.instance);
    await bus.close();
  });

  test('says USB_ACCESS to a user who may not open the device', async () => {
    const [port] = ports;
    await asNobody(async () => {
      await expect(port!.open()).rejects.toMatchObject({ code: 'USB_ACCESS', facts: { path: port!.path } });
    });
    await port!.open();
    await port!.close();
  });

  test('lists a device without a serial number that the user may not open', async () => {
    const place = { hub: 2, port: 0 };
    const added = await bench.rack.add({ faults: [parseFault('*:no-serial')] });
    await plugIn(bench.server, [{ busId: added.busId, place }]);
    await udevSettled();
    const path = await pathOf(place);
    await asNobody(async () => {
      const port = (await bench.bus.list()).find(each => each.path === path)!;
      expect(port.serialNumber).toBeUndefined();
      await expect(port.open()).rejects.toMatchObject({ code: 'USB_ACCESS' });
    });
    const port = (await bench.bus.list()).find(each => each.path === path)!;
    expect(port.serialNumber).toBeNull();
  });

  test('is refused to such a user by `doctor`, which prints the udev rule', async () => {
    const code = `
      import { examine } from '#src/cli/examine.ts';
      import { loadConfig } from '#src/config/load-config.ts';
      const config = loadConfig({ flags: { db: '/tmp/none.db' }, env: {}, cwd: '/tmp' });
      process.setgroups([]);
      process.setgid('nogroup');
      process.setuid('nobody');
      const checks = await examine(config, { env: {}, cwd: '/tmp', out: console });
      console.log(JSON.stringify(checks.find(({ name }) => name === 'USB')));`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: 45_000,
    });
    let said = '';
    for await (const chunk of child.stdout) said += String(chunk);
    expect(JSON.parse(said)).toMatchObject({
      state: 'bad',
      found: "2 Particle device(s) can't be opened by this user",
      cure: expect.stringContaining('SUBSYSTEM=="usb", ATTR{idVendor}=="2b04", MODE="0660"') as string,
    });
  });

  test('keeps a claim that is asked for twice, and says USB_BUSY to whoever else asks', async () => {
    const [port] = ports;
    await port!.open();
    await port!.claimInterface(0);
    await port!.claimInterface(0);
    const [other] = await bench.otherBus.list();
    await expect(other!.open()).rejects.toMatchObject({ code: 'USB_BUSY' });
    await other!.close();
    expect(await port!.controlTransferIn(GET_STATUS, 6, 5000)).toMatchObject({ status: 'ok' });
    await port!.close();
  });

  test('tells noise on a cable that is being pulled, which is USB_GONE, from noise of a device that stays', async () => {
    const place = { hub: 2, port: 0 };
    const added = await bench.rack.add();
    const cable = await NoisyCable.before(bench.server);
    try {
      await plugIn(cable, [{ busId: added.busId, place }]);
      await udevSettled();
      const path = await pathOf(place);
      const port = (await bench.bus.list()).find(each => each.path === path)!;
      await port.open();
      await port.claimInterface(0);
      cable.becomeNoisy();
      await expect(port.controlTransferIn(GET_STATUS, 6, 5000)).rejects.toMatchObject({ code: 'USB_IO' });
      cable.becomeNoisy(() => setTimeout(() => cable.pull(), 100));
      await expect(port.controlTransferIn(GET_STATUS, 6, 5000)).rejects.toMatchObject({ code: 'USB_GONE' });
      await port.close();
    } finally {
      await cable.close();
    }
  });

  test('asks nothing more of a device that leaves, while it lets go of it', async () => {
    const device = await DfuDevice.open(ports[0]!, systemClock);
    await device.read(1, 0, 64);
    await device.leave();
    const { record } = bench.rack.devices[0]!.photon;
    const { other } = record.counts;
    await device.close();
    expect(record.counts.other).toBe(other);
  });

  test('lets the process end by itself once it is closed', async () => {
    const code = `
      import { localBus } from '#src/usb/webusb.ts';
      const bus = localBus();
      bus.onChange(() => undefined);
      const ports = await bus.list();
      const port = ports.find(each => each.vendorId === 0x2b04);
      await port.open();
      await port.claimInterface(0);
      await port.close();
      await bus.close();
      console.log(ports.length);`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
      stdio: ['ignore', 'ignore', 'inherit'],
      timeout: 45_000,
    });
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});

async function asNobody(act: () => Promise<void>): Promise<void> {
  const [user, group, groups] = [process.geteuid!(), process.getegid!(), process.getgroups!()];
  process.setgroups!([]);
  process.setegid!('nogroup');
  process.seteuid!('nobody');
  try {
    await act();
  } finally {
    process.seteuid!(user);
    process.setegid!(group);
    process.setgroups!(groups);
  }
}
