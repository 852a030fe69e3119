import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { simulatedId } from '#src/sim/rack-layout.ts';
import { dfuBench } from '../support/dfu-bench.ts';

const DCT = 1;
const FLASH = 0;
const PART1 = 0x08020000;

function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 0xff);
}

describe('a read', () => {
  test('sets the pointer once, takes blocks from 2 on of 4096 bytes at most, and ends in idle', async () => {
    const { device, on, asked } = await dfuBench();
    const bytes = await device.read(DCT, 0, 8391);
    expect(asked()).toEqual([
      'select 1',
      'dnload 0 +5',
      'getstatus',
      'abort',
      'upload 2 +4096',
      'upload 3 +4096',
      'upload 4 +199',
      'abort',
    ]);
    expect(bytes).toHaveLength(8391);
    expect(Buffer.from(bytes.subarray(3618, 3630)).toString('hex')).toBe(simulatedId(1));
    expect(on.photon.dfuState).toBe(2);
  });

  test('of another place sets the pointer again, and selects no setting that is selected', async () => {
    const { device, asked, sent } = await dfuBench();
    await device.read(DCT, 34, 612);
    asked();
    await device.read(DCT, 3618, 12);
    expect(asked()).toEqual(['dnload 0 +5', 'getstatus', 'abort', 'upload 2 +12', 'abort']);
    await device.read(FLASH, PART1, 24);
    expect(asked()[0]).toBe('select 0');
    expect(sent.map(({ data }) => Buffer.from(data).readUInt32LE(1))).toEqual([34, 3618, PART1]);
  });

  test.each([
    [4096, ['upload 2 +4096']],
    [4097, ['upload 2 +4096', 'upload 3 +1']],
    [8192, ['upload 2 +4096', 'upload 3 +4096']],
    [0, []],
  ])('of %i bytes has as many blocks as it needs', async (length, uploads) => {
    const { device, asked } = await dfuBench();
    expect(await device.read(FLASH, PART1, length)).toHaveLength(length);
    expect(asked().filter(line => line.startsWith('upload'))).toEqual(uploads);
  });

  test('after others gives the same bytes, whatever was read before', async () => {
    const { device } = await dfuBench();
    const whole = await device.read(DCT, 0, 8391);
    await fc.assert(
      fc.asyncProperty(fc.nat(8390), fc.nat(5000), async (offset, wanted) => {
        const length = Math.min(wanted, 8391 - offset);
        expect(Buffer.from(await device.read(DCT, offset, length))).toEqual(
          Buffer.from(whole.subarray(offset, offset + length)),
        );
      }),
      { numRuns: 25 },
    );
  });
});

describe('a write', () => {
  test('is one pointer and one block with the number 2, each with its two GETSTATUS, and ends where the next command may follow', async () => {
    const { device, on, asked, sent } = await dfuBench();
    await device.writeBlock(DCT, 34, pattern(1600));
    expect(asked()).toEqual([
      'select 1',
      'dnload 0 +5',
      'getstatus',
      'getstatus',
      'dnload 2 +1600',
      'getstatus',
      'getstatus',
    ]);
    expect(Buffer.from(sent[0]!.data).toString('hex')).toBe('2122000000');
    expect(on.photon.dctRewrites).toBe(1);
    expect(on.photon.dfuState).toBe(5);
  });

  test('changes its own bytes alone, and erases nothing', async () => {
    const { device, on, sent } = await dfuBench();
    const before = Buffer.from(await device.read(DCT, 0, 8391));
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 32, max: 8390 }),
        fc.integer({ min: 1, max: 4096 }),
        async (offset, wanted) => {
          const bytes = pattern(Math.min(wanted, 8391 - offset), offset);
          await device.writeBlock(DCT, offset, bytes);
          before.set(bytes, offset);
          const after = Buffer.from(await device.read(DCT, 0, 8391));
          expect(after.subarray(32).equals(before.subarray(32))).toBe(true);
        },
      ),
      { numRuns: 15 },
    );
    expect(sent.filter(({ block, data }) => block === 0 && data[0] !== 0x21)).toEqual([]);
    expect(Math.max(...sent.map(({ data }) => data.length))).toBeLessThanOrEqual(4096);
    expect(on.photon.record.violations).toEqual([]);
  });

  test('of 4096 bytes is the longest; a longer one, and one of nothing, never reach the device', async () => {
    const { device, asked, on } = await dfuBench();
    await device.writeBlock(DCT, 0, pattern(4096));
    asked();
    for (const length of [4097, 8192, 0]) {
      await expect(device.writeBlock(DCT, 0, new Uint8Array(length))).rejects.toThrow(
        `a block holds 1 to 4096 bytes, not ${length}`,
      );
    }
    expect(asked()).toEqual([]);
    expect(on.photon.record.violations).toEqual([]);
  });

  test('that fails stalls its GETSTATUS: WRITE_FAILED, and the device is not asked again', async () => {
    const { device, asked } = await dfuBench('write-stall');
    await expect(device.writeBlock(DCT, 34, pattern(100))).rejects.toMatchObject({
      code: 'WRITE_FAILED',
      message: 'the device failed to write 100 bytes at 0x00000022',
      facts: { path: '1-1.1' },
    });
    expect(asked().slice(4)).toEqual(['dnload 2 +100', 'getstatus stall']);
  });

  test('where the flash is protected, or the DCT is out of reach, fails alike', async () => {
    const protectedPart = await dfuBench();
    await expect(protectedPart.device.writeBlock(FLASH, 0x08004000, pattern(16))).rejects.toMatchObject({
      code: 'WRITE_FAILED',
    });
    const { device } = await dfuBench('dct-zeros');
    await expect(device.writeBlock(DCT, 34, pattern(16))).rejects.toMatchObject({ code: 'WRITE_FAILED' });
  });

  test('that the device loses is for the caller to find: it is read back as it was', async () => {
    const { device } = await dfuBench('write-drop');
    const before = await device.read(DCT, 34, 16);
    await device.writeBlock(DCT, 34, pattern(16));
    expect(await device.read(DCT, 34, 16)).toEqual(before);
  });

  test('can be made after a failed one, once the device is idle again', async () => {
    const { device } = await dfuBench('write-stall:1');
    await expect(device.writeBlock(DCT, 34, pattern(64))).rejects.toMatchObject({ code: 'WRITE_FAILED' });
    await device.toIdle();
    await device.writeBlock(DCT, 34, pattern(64));
    expect(await device.read(DCT, 34, 64)).toEqual(pattern(64));
  });

  test.each(['dnload:2', 'getstatus:3', 'write'])('in which the cable is pulled (%s) ends as USB_GONE', async at => {
    const { device } = await dfuBench(`unplug:${at}`);
    await expect(device.writeBlock(DCT, 34, pattern(64))).rejects.toMatchObject({ code: 'USB_GONE' });
  });

  test('waits the millisecond that the DCT asks for while it is busy, and no more', async () => {
    const { device, clock } = await dfuBench();
    await device.writeBlock(DCT, 34, pattern(64));
    await device.writeBlock(DCT, 34, pattern(64));
    expect(clock.sleeps.every(ms => ms <= 1)).toBe(true);
    expect(clock.sleeps).toContain(1);
  });
});
