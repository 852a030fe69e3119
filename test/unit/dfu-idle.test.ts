import { describe, expect, test } from 'vitest';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { dfuBench } from '../support/dfu-bench.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { ScriptedPort, type Script } from '../support/scripted-port.ts';

async function scripted(script: Script): Promise<{ device: DfuDevice; port: ScriptedPort; clock: QuickClock }> {
  const port = new ScriptedPort(script);
  const clock = new QuickClock();
  return { device: await DfuDevice.open(port, clock), port, clock };
}

describe('a device is brought to dfuIDLE', () => {
  test.each([
    [2, ['getstate', 'getstatus']],
    [3, ['getstate', 'abort', 'getstatus']],
    [5, ['getstate', 'getstatus', 'abort', 'getstatus']],
    [6, ['getstate', 'abort', 'getstatus']],
    [9, ['getstate', 'getstatus', 'abort', 'getstatus']],
    [10, ['getstate', 'getstatus', 'clrstatus', 'getstatus']],
    [15, ['getstate', 'getstatus', 'clrstatus', 'clrstatus', 'getstatus']],
  ])('from state %i, and no request too many', async (state, expected) => {
    const { device, on, asked, clock } = await dfuBench(`start-state:${state}`);
    await device.toIdle();
    expect(asked()).toEqual(expected);
    expect(on.photon.dfuState).toBe(2);
    expect(clock.sleeps).toEqual([]);
  });

  test.each([0, 1, 4, 7, 11, 14, 255])('from state %i too', async state => {
    const { device, on } = await dfuBench(`start-state:${state}`);
    await device.toIdle();
    expect(on.photon.dfuState).toBe(2);
  });

  test('where it has been left in the midst of a read or of a write', async () => {
    const { device, port, on } = await dfuBench();
    const dfu = (request: number, value = 0) =>
      ({ requestType: 'class', recipient: 'interface', request, value, index: 0 }) as const;
    await port.controlTransferIn(dfu(2, 2), 16, 1000);
    expect(on.photon.dfuState).toBe(9);
    await device.toIdle();
    await port.controlTransferOut(dfu(1, 0), Uint8Array.of(0x21, 34, 0, 0, 0), 1000);
    expect(on.photon.dfuState).toBe(3);
    await device.toIdle();
    expect(on.photon.dfuState).toBe(2);
    expect(on.photon.record.violations).toEqual([]);
  });

  test('a block that an earlier host had sent is thrown away, not written', async () => {
    const { device, port, on } = await dfuBench();
    const dfu = (request: number, value = 0) =>
      ({ requestType: 'class', recipient: 'interface', request, value, index: 0 }) as const;
    await port.selectAlternateInterface(0, 1);
    await port.controlTransferOut(dfu(1, 0), Uint8Array.of(0x21, 34, 0, 0, 0), 1000);
    await port.controlTransferIn(dfu(3), 6, 1000);
    await port.controlTransferIn(dfu(3), 6, 1000);
    await port.controlTransferOut(dfu(1, 2), new Uint8Array(64).fill(0x55), 1000);
    await device.toIdle();
    expect(on.photon.dctRewrites).toBe(0);
    expect(on.photon.dfuState).toBe(2);
  });

  test('with a status that is not OK, by way of dfuERROR', async () => {
    const { device, port } = await scripted({ statuses: [[2, 0, 14], 2] });
    await device.toIdle();
    expect(port.names).toEqual(['GETSTATE', 'GETSTATUS', 'CLRSTATUS', 'CLRSTATUS', 'GETSTATUS']);
  });

  test('while it is still busy, after the wait that it asks for, and that is 5 s at most', async () => {
    const { device, clock, port } = await scripted({ statuses: [[4, 300], [4, 0xffffff], 5, 2] });
    await device.toIdle();
    expect(clock.sleeps).toEqual([300, 5000]);
    expect(port.names).toEqual(['GETSTATE', 'GETSTATUS', 'GETSTATUS', 'GETSTATUS', 'ABORT', 'GETSTATUS']);
  });

  test('after the stall of a write that an earlier host gave up on', async () => {
    let asked = 0;
    const { device } = await scripted({
      on: { GETSTATUS: () => ((asked += 1) === 1 ? 'stall' : Uint8Array.of(0, 0, 0, 0, 2, 0)) },
    });
    await device.toIdle();
    expect(asked).toBe(2);
  });
});

describe('a device that does not come to dfuIDLE', () => {
  test.each([
    [[10], 'DFU_NOT_IDLE', 'the device stays in dfuERROR with status 0'],
    [[[2, 0, 3]], 'DFU_NOT_IDLE', 'the device stays in dfuIDLE with status 3'],
    [[42], 'DFU_NOT_IDLE', 'the device stays in state 42 with status 0'],
    [[7], 'DEVICE_LEAVING', 'the device is about to reset (dfuMANIFEST)'],
    [[8], 'DEVICE_LEAVING', 'the device is about to reset (dfuWAIT-RESET)'],
  ] as const)('is told by its state (%j)', async (statuses, code, message) => {
    const { device, port } = await scripted({ statuses });
    await expect(device.toIdle()).rejects.toMatchObject({ code, message, facts: { path: '1-1.1' } });
    expect(port.asked.length).toBeLessThan(20);
  });

  test('is told where it refuses every GETSTATUS', async () => {
    const { device, port } = await scripted({ on: { GETSTATUS: () => 'stall' } });
    await expect(device.toIdle()).rejects.toMatchObject({
      code: 'DFU_NOT_IDLE',
      message: 'the device refuses GETSTATUS',
    });
    expect(port.names).toEqual(['GETSTATE', ...Array<string>(4).fill('GETSTATUS')]);
  });

  test('is told where it refuses to be brought there', async () => {
    const { device } = await scripted({ statuses: [5], on: { ABORT: () => 'stall' } });
    await expect(device.toIdle()).rejects.toMatchObject({
      code: 'DFU_PROTOCOL',
      message: 'the device refused ABORT',
    });
  });
});
