import { describe, expect, test } from 'vitest';
import { dfuBench } from '../support/dfu-bench.ts';

const FLASH = 0;
const USER = 0x080a_0000;

const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 0xff);

describe('flash', () => {
  test('is erased by one command, and written as a run of blocks behind one pointer', async () => {
    const { device, on, asked, sent } = await dfuBench();
    await device.toIdle();
    asked();
    await device.eraseSector(FLASH, USER);
    const bytes = pattern(9000);
    await device.writeRun(FLASH, USER, bytes);
    expect(asked()).toEqual([
      'select 0',
      ...['dnload 0 +5', 'getstatus', 'getstatus'],
      ...['dnload 0 +5', 'getstatus', 'getstatus'],
      ...['dnload 2 +4096', 'getstatus', 'getstatus'],
      ...['dnload 3 +4096', 'getstatus', 'getstatus'],
      ...['dnload 4 +808', 'getstatus', 'getstatus'],
    ]);
    expect(Buffer.from(sent[0]!.data).toString('hex')).toBe('4100000a08');
    expect(Buffer.from(sent[1]!.data).toString('hex')).toBe('2100000a08');
    expect(Buffer.from(await device.read(FLASH, USER, 9000)).equals(Buffer.from(bytes))).toBe(true);
    expect(on.photon.record.erased).toEqual([USER]);
    expect(on.photon.record.violations).toEqual([]);
  });

  test('that the bootloader protects is not erased, and a block that fails is told by its address', async () => {
    const protectedOne = await dfuBench();
    await expect(protectedOne.device.eraseSector(FLASH, 0x0800_0000)).rejects.toMatchObject({
      code: 'WRITE_FAILED',
      message: 'the device failed to erase the sector at 0x08000000',
    });
    const { device } = await dfuBench('write-stall:2');
    await device.eraseSector(FLASH, USER);
    await expect(device.writeRun(FLASH, USER, pattern(9000))).rejects.toMatchObject({
      code: 'WRITE_FAILED',
      message: 'the device failed to write 4096 bytes at 0x080a1000',
    });
  });
});
