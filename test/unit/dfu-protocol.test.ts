import { describe, expect, test } from 'vitest';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { ScriptedPort, type Script } from '../support/scripted-port.ts';

async function scripted(script: Script): Promise<{ device: DfuDevice; port: ScriptedPort; clock: QuickClock }> {
  const port = new ScriptedPort(script);
  const clock = new QuickClock();
  return { device: await DfuDevice.open(port, clock), port, clock };
}

/** GETSTATUS of the pointer command, and then those of the data block. */
const POINTER_SET = [4, 5] as const;
const ONE_BLOCK = new Uint8Array(16);

describe('a device that does not do what DFU says', () => {
  test.each([
    [
      'DNLOAD of the pointer is refused',
      { on: { DNLOAD: () => 'stall' } },
      'the device refused block 0 (DNLOAD stalled)',
    ],
    ['it takes a part of a block', { on: { DNLOAD: () => ({ took: 3 }) } }, 'the device took 3 of 5 bytes of block 0'],
    ['the address is refused', { on: { GETSTATUS: () => 'stall' } }, 'the device refused the address 0x00000022'],
    ['the address brings an error', { statuses: [[5, 0, 8]] }, 'the device refused the address 0x00000022'],
    ['it is idle where it should wait for blocks', { statuses: [2] }, 'after block 0 the device is in dfuIDLE'],
    ['it falls into dfuERROR without a status', { statuses: [10] }, 'after block 0 the device is in dfuERROR'],
    ['it is in no state of DFU', { statuses: [15] }, 'after block 0 the device is in state 15'],
    ['GETSTATUS is short', { on: { GETSTATUS: () => new Uint8Array(5) } }, 'GETSTATUS gave 5 bytes instead of 6'],
    ['GETSTATUS is long', { on: { GETSTATUS: () => new Uint8Array(7) } }, 'GETSTATUS gave 7 bytes instead of 6'],
    ['it does not take ABORT', { on: { ABORT: () => 'stall' } }, 'the device refused ABORT'],
  ] as const satisfies readonly (readonly [string, Script, string])[])(
    'is told where %s',
    async (_, script, message) => {
      const { device } = await scripted(script);
      await expect(device.read(1, 34, 16)).rejects.toMatchObject({
        code: 'DFU_PROTOCOL',
        message,
        facts: { path: '1-1.1' },
      });
    },
  );

  test.each([
    ['falls into dfuERROR while it is busy', { statuses: [4, 10] }, 'after block 0 the device is in dfuERROR'],
    ['stays busy for ever', { statuses: [4] }, 'the device stays busy after block 0'],
  ] as const satisfies readonly (readonly [string, Script, string])[])(
    'is told before a block is sent where it %s',
    async (_, script, message) => {
      const { device, port } = await scripted(script);
      await expect(device.writeBlock(1, 34, ONE_BLOCK)).rejects.toMatchObject({ code: 'DFU_PROTOCOL', message });
      expect(port.asked.filter(({ name, value }) => name === 'DNLOAD' && value !== 0)).toEqual([]);
    },
  );

  test('is told where it is still busy when it is to be read', async () => {
    const { device } = await scripted({ statuses: [4], on: { UPLOAD: () => 'stall' } });
    await expect(device.read(1, 34, 16)).rejects.toMatchObject({ code: 'READ_FAILED' });
  });

  test('is asked 20 times whether it is still busy, and then no more', async () => {
    const { device, port } = await scripted({ statuses: [4] });
    await expect(device.writeBlock(1, 34, ONE_BLOCK)).rejects.toMatchObject({ code: 'DFU_PROTOCOL' });
    expect(port.names).toEqual(['DNLOAD', ...Array<string>(20).fill('GETSTATUS')]);
  });
});

describe('a read that gives something else than was asked for', () => {
  test.each([
    [0, 'the device gave 0 bytes of the 4096 at 0x00000000'],
    [1, 'the device gave 1 bytes of the 4096 at 0x00000000'],
    [4095, 'the device gave 4095 bytes of the 4096 at 0x00000000'],
    [4097, 'the device gave 4097 bytes of the 4096 at 0x00000000'],
  ])('%i bytes of 4096, is READ_FAILED', async (length, message) => {
    const { device, port } = await scripted({ on: { UPLOAD: () => new Uint8Array(length) } });
    await expect(device.read(1, 0, 100_000)).rejects.toMatchObject({ code: 'READ_FAILED', message });
    expect(port.names.filter(name => name === 'UPLOAD')).toHaveLength(8); // those that were asked for with it, and no more
  });

  test('names the place, though it lies in a later block', async () => {
    const { device } = await scripted({
      on: { UPLOAD: ({ value }, length) => new Uint8Array(value === 4 ? length - 1 : length) },
    });
    await expect(device.read(1, 0x100, 8391)).rejects.toMatchObject({
      code: 'READ_FAILED',
      message: 'the device gave 198 bytes of the 199 at 0x00002100',
    });
  });

  test('a stall, is READ_FAILED', async () => {
    const { device } = await scripted({ on: { UPLOAD: () => 'stall' } });
    await expect(device.read(1, 34, 612)).rejects.toMatchObject({
      code: 'READ_FAILED',
      message: 'the device refused the 612 at 0x00000022',
    });
  });
});

describe('the GETSTATUS of a data block', () => {
  test('that stalls is not asked again, though the next one would say OK', async () => {
    let asked = 0;
    const { device, port } = await scripted({
      on: { GETSTATUS: () => ((asked += 1) === 2 ? 'stall' : Uint8Array.of(0, 0, 0, 0, 5, 0)) },
    });
    await expect(device.writeBlock(1, 34, ONE_BLOCK)).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    expect(port.names).toEqual(['DNLOAD', 'GETSTATUS', 'DNLOAD', 'GETSTATUS']);
  });

  test('that carries an error is WRITE_FAILED', async () => {
    const { device } = await scripted({ statuses: [...POINTER_SET, 4, [10, 0, 3]] });
    await expect(device.writeBlock(1, 34, ONE_BLOCK)).rejects.toMatchObject({
      code: 'WRITE_FAILED',
      message: 'the device failed to write 16 bytes at 0x00000022',
    });
  });

  test('has at least 10 s, since the write runs inside it, and every other transfer at least 5', async () => {
    const { device, port } = await scripted({ statuses: [...POINTER_SET, 4, 5] });
    await device.writeBlock(1, 34, ONE_BLOCK);
    for (const { name, timeoutMs } of port.asked) {
      expect(timeoutMs).toBeGreaterThanOrEqual(name === 'GETSTATUS' ? 10_000 : 5000);
    }
  });
});

describe('bwPollTimeout', () => {
  test('is waited for while the device says busy, each time anew', async () => {
    const { device, clock } = await scripted({ statuses: [...POINTER_SET, [4, 500], [4, 20], 5] });
    await device.writeBlock(1, 34, ONE_BLOCK);
    expect(clock.sleeps).toEqual([500, 20]);
  });

  test('is not waited for once the device is no longer busy: 500 sticks to every later answer', async () => {
    const { device, clock } = await scripted({ statuses: [[5, 500]] });
    await device.writeBlock(1, 34, ONE_BLOCK);
    await device.read(1, 34, 16);
    expect(clock.sleeps).toEqual([]);
  });

  test('is not waited for longer than 5 s, though it may say four hours', async () => {
    const { device, clock } = await scripted({ statuses: [...POINTER_SET, [4, 0xffffff], 5] });
    await device.writeBlock(1, 34, ONE_BLOCK);
    expect(clock.sleeps).toEqual([5000]);
  });
});
