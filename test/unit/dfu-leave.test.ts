import { describe, expect, test } from 'vitest';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { goneFault, ioFault, stallFault, timeoutFault } from '#src/usb/port-faults.ts';
import { setInterface } from '#src/usb/setup-packet.ts';
import { dfuBench } from '../support/dfu-bench.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { PATH, ScriptedPort, type Script } from '../support/scripted-port.ts';
import { ManualClock } from './sim-bench.ts';

async function leaving(script: Script): Promise<{ port: ScriptedPort; left: Promise<void> }> {
  const port = new ScriptedPort(script);
  const device = await DfuDevice.open(port, new QuickClock());
  return { port, left: device.leave() };
}

describe('a device leaves DFU mode', () => {
  test.each(['new', 'old'] as const)(
    'with a %s bootloader: from alternate setting 0, an empty DNLOAD, one GETSTATUS, and half a second later it is gone',
    async bootloader => {
      const clock = new ManualClock();
      const { device, on, asked } = await dfuBench(null, { bootloader, clock });
      await device.leave();
      expect(asked()).toEqual(['select 0', 'dnload 2 +0', 'getstatus']);
      expect(on.onBus).toBe(true);
      await device.close();
      await clock.advance(500);
      expect(on.mode).toBe('normal');
    },
  );

  test.each(['a write', 'a read'])('after %s, since that ends where leaving begins', async before => {
    const clock = new ManualClock();
    const { device, on } = await dfuBench(null, { clock });
    if (before === 'a read') await device.read(1, 0, 8391);
    else await device.writeBlock(1, 34, new Uint8Array(64));
    await device.leave();
    await clock.advance(500);
    expect(on.mode).toBe('normal');
  });

  test.each(['dnload', 'getstatus'])('though it vanishes in its %s', async at => {
    const { device } = await dfuBench(`unplug:${at}`);
    await expect(device.leave()).resolves.toBeUndefined();
  });

  test('though it has vanished before', async () => {
    const gone = () => {
      throw goneFault(PATH);
    };
    const { left } = await leaving({ on: { DNLOAD: gone } });
    await expect(left).resolves.toBeUndefined();
  });

  test.each([
    stallFault(PATH, setInterface(0, 0)),
    timeoutFault(PATH, setInterface(0, 0), 5000),
    ioFault(PATH, 'errno 110'),
  ])('though the alternate setting that the kernel would select while it is gone ends as $code', async fault => {
    const { left, port } = await leaving({ select: fault, statuses: [5] });
    await expect(left).resolves.toBeUndefined();
    expect(port.names).toEqual(['DNLOAD', 'GETSTATUS']);
  });

  test('though it is gone when it is asked for that', async () => {
    const { left, port } = await leaving({ select: goneFault(PATH) });
    await expect(left).resolves.toBeUndefined();
    expect(port.names).toEqual([]);
  });

  test('though the stall of an earlier write hits its GETSTATUS, which is asked once more', async () => {
    let asked = 0;
    const { left, port } = await leaving({
      on: { GETSTATUS: () => ((asked += 1) === 1 ? 'stall' : Uint8Array.of(0, 0, 0, 0, 5, 0)) },
    });
    await expect(left).resolves.toBeUndefined();
    expect(port.names).toEqual(['DNLOAD', 'GETSTATUS', 'GETSTATUS']);
  });

  test.each([5, 6, 7, 8])('and says so with state %i', async state => {
    const { left, port } = await leaving({ statuses: [state] });
    await expect(left).resolves.toBeUndefined();
    expect(port.names).toEqual(['DNLOAD', 'GETSTATUS']);
  });
});

describe('a device that stays in DFU mode is LEAVE_FAILED', () => {
  test('where it refuses the empty DNLOAD', async () => {
    const { left } = await leaving({ on: { DNLOAD: () => 'stall' } });
    await expect(left).rejects.toMatchObject({
      code: 'LEAVE_FAILED',
      message: 'the device refuses to leave DFU mode',
      facts: { path: '1-1.1' },
    });
  });

  test('where it was not ready for it', async () => {
    const { device, on } = await dfuBench('start-state:10');
    await expect(device.leave()).rejects.toMatchObject({ code: 'LEAVE_FAILED' });
    expect(on.mode).toBe('dfu');
  });

  test.each([
    [2, 'dfuIDLE'],
    [4, 'dfuDNBUSY'],
    [9, 'dfuUPLOAD-IDLE'],
    [10, 'dfuERROR'],
    [15, 'state 15'],
  ])('where it says state %i', async (state, name) => {
    const { left } = await leaving({ statuses: [state] });
    await expect(left).rejects.toMatchObject({ code: 'LEAVE_FAILED', message: `the device stays in ${name}` });
  });

  test('where it does not answer, with what happened as the cause', async () => {
    for (const name of ['DNLOAD', 'GETSTATUS'] as const) {
      const { left } = await leaving({
        on: {
          [name]: () => {
            throw timeoutFault(
              PATH,
              { requestType: 'class', recipient: 'interface', request: 1, value: 2, index: 0 },
              5000,
            );
          },
        },
      });
      await expect(left).rejects.toMatchObject({
        code: 'LEAVE_FAILED',
        message: 'the device does not answer while it should leave',
        cause: { code: 'USB_TIMEOUT' },
      });
    }
  });

  test('where it stalls the GETSTATUS without which nothing happens', async () => {
    const { left } = await leaving({ on: { GETSTATUS: () => 'stall' } });
    await expect(left).rejects.toMatchObject({ code: 'LEAVE_FAILED' });
  });
});
