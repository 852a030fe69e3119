import { describe, expect, test } from 'vitest';
import { Fault, type FaultCode } from '#src/core/errors.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { benchPort } from '../support/dfu-bench.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { alternate, configuration, FUNCTIONAL, ScriptedPort } from '../support/scripted-port.ts';

function refusing(code: FaultCode, times: number): ScriptedPort {
  return new ScriptedPort({
    open(attempt) {
      if (attempt <= times) throw new Fault(code, 'no');
    },
  });
}

describe('a device is opened', () => {
  test('with its descriptors read and nothing asked of DFU', async () => {
    const { port, on } = await benchPort();
    await using device = await DfuDevice.open(port, new QuickClock());
    expect(device.descriptors.transferSize).toBe(4096);
    expect(new Set(on.photon.record.lines.map(({ name }) => name))).toEqual(new Set(['descriptor']));
  });

  test('and closed again at the end of its block, and may be closed more than once', async () => {
    const { port, on } = await benchPort();
    {
      await using device = await DfuDevice.open(port, new QuickClock());
      expect(on.held).toBe(true);
      await device.close();
    }
    expect(on.held).toBe(false);
  });

  test.each(['USB_ACCESS', 'USB_BUSY'] as const)('after %s, tried again every 100 ms', async code => {
    const port = refusing(code, 3);
    const clock = new QuickClock();
    await DfuDevice.open(port, clock);
    expect(port.opens).toBe(4);
    expect(clock.sleeps).toEqual([100, 100, 100]);
  });

  test('once another program has let it go', async () => {
    const { port, on } = await benchPort();
    const giveBack = on.hold();
    const clock = new QuickClock();
    clock.onSleep = () => {
      if (clock.sleeps.length === 5) giveBack?.();
    };
    await using device = await DfuDevice.open(port, clock);
    expect(device.port.opened).toBe(true);
    expect(clock.sleeps).toHaveLength(5);
  });
});

describe('a device is not opened', () => {
  test.each(['USB_ACCESS', 'USB_BUSY'] as const)('where %s lasts for 2 s', async code => {
    const port = refusing(code, Infinity);
    const clock = new QuickClock();
    const before = clock.monotonicMs();
    await expect(DfuDevice.open(port, clock)).rejects.toMatchObject({ code });
    expect(clock.monotonicMs() - before).toBe(2000);
    expect(port.opens).toBe(21);
  });

  test.each(['USB_GONE', 'USB_IO', 'USB_TIMEOUT', 'DESCRIPTOR_INVALID'] as const)(
    'after %s, nor tried again',
    async code => {
      const port = refusing(code, 1);
      const clock = new QuickClock();
      await expect(DfuDevice.open(port, clock)).rejects.toMatchObject({ code });
      expect([port.opens, clock.sleeps.length]).toEqual([1, 0]);
    },
  );

  test('once the wait for it was called off', async () => {
    const port = refusing('USB_BUSY', Infinity);
    const clock = new QuickClock();
    const stop = new AbortController();
    clock.onSleep = () => stop.abort();
    await expect(DfuDevice.open(port, clock, stop.signal)).rejects.toMatchObject({ code: 'USB_BUSY' });
    expect(port.opens).toBe(2);
  });

  test('where another device answers than was found at its path', async () => {
    const port = new ScriptedPort({
      descriptors: { 0x100: Uint8Array.from([18, 1, 0, 2, 0, 0, 0, 64, 4, 43, 8, 208, 0, 2, 1, 2, 0, 1]) },
    });
    await expect(DfuDevice.open(port, new QuickClock())).rejects.toMatchObject({
      code: 'IDENTITY_CHANGED',
      message: 'the device at this path is another one by now',
    });
    expect(port.opened).toBe(false);
  });

  test('where its blocks have another size', async () => {
    const small = FUNCTIONAL.with(6, 0x08);
    const port = new ScriptedPort({ descriptors: { 0x200: configuration(alternate(0, 6), small) } });
    await expect(DfuDevice.open(port, new QuickClock())).rejects.toMatchObject({
      code: 'DEVICE_UNEXPECTED',
      message: 'its DFU transfer size is 2048, not 4096',
    });
    expect(port.opened).toBe(false);
  });

  test('where its descriptors make no sense, or it vanishes while it tells them, and it is closed again', async () => {
    const port = new ScriptedPort({ descriptors: { 0x200: null } });
    await expect(DfuDevice.open(port, new QuickClock())).rejects.toMatchObject({ code: 'DESCRIPTOR_INVALID' });
    expect(port.opened).toBe(false);
    const unplugged = await benchPort('unplug:descriptor:2');
    await expect(DfuDevice.open(unplugged.port, new QuickClock())).rejects.toMatchObject({ code: 'USB_GONE' });
    expect(unplugged.port.opened).toBe(false);
  });
});
