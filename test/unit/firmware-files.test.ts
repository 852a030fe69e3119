import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Fault } from '#src/core/errors.ts';
import { confirmModules } from '#src/job/confirm-modules.ts';
import { firmwareOf, NO_FIRMWARE, type FirmwareOptions } from '#src/job/firmware-files.ts';
import { loadJob } from '#src/job/job.ts';
import { makeModule } from '#src/sim/photon-modules.ts';
import { partFacts, writeParts } from '../support/firmware-files.ts';
import { jobText, KEEP, readJob, refusalOf } from '../support/job-text.ts';
import { tempFolder } from '../support/temp-folder.ts';

let folder: ReturnType<typeof tempFolder>;
let parts: ReturnType<typeof writeParts>;
beforeEach(() => {
  folder = tempFolder();
  parts = writeParts(folder.path);
});
afterEach(() => folder[Symbol.dispose]());

const jobFile = (): string => folder.file('job.yaml');

function refused(options: FirmwareOptions): string {
  try {
    firmwareOf(options, jobFile(), NO_FIRMWARE);
  } catch (thrown) {
    if (thrown instanceof Fault && thrown.code === 'FIRMWARE_INVALID') {
      expect(thrown.message).not.toContain('\n');
      return thrown.message.replaceAll(`${folder.path}/`, '');
    }
    throw thrown;
  }
  throw new Error('the files were taken');
}

/** A file that is a good part but for what is done to it; with its CRC right again, if wanted. */
function spoilt(how: (bytes: Buffer) => Buffer | undefined, mendCrc = false): string {
  const copy = Buffer.from(parts.part1.bytes);
  const bytes = how(copy) ?? copy;
  if (mendCrc) bytes.writeUInt32BE(crc32(bytes.subarray(0, bytes.length - 4)), bytes.length - 4);
  writeFileSync(folder.file('spoilt.bin'), bytes);
  return refused({ 'system-part1': 'spoilt.bin' });
}

describe('the files of a firmware step', () => {
  test('count from the job file, are read in the order of the slots, and the vendor’s reader sees the same', async () => {
    const options = { 'user-part': 'user-300.bin', 'system-part2': parts.part2.file, 'system-part1': 'part1-300.bin' };
    const modules = firmwareOf(options, jobFile(), NO_FIRMWARE);
    expect(modules.map(({ slot, platform, header }) => [slot, platform, header.version])).toEqual([
      ['system-part1', 'photon', 300],
      ['system-part2', 'photon', 300],
      ['user-part', 'photon', 5],
    ]);
    expect(Buffer.from(modules[1]!.bytes).equals(parts.part2.bytes)).toBe(true);
    await confirmModules(modules);
  });

  test('that the vendor’s reader sees otherwise are refused', async () => {
    const [module] = firmwareOf({ 'system-part1': 'part1-300.bin' }, jobFile(), NO_FIRMWARE);
    const other = { ...module!, header: { ...module!.header, version: 301 } };
    await expect(confirmModules([other])).rejects.toMatchObject({ code: 'FIRMWARE_INVALID' });
    await expect(confirmModules([{ ...module!, bytes: new Uint8Array(3) }])).rejects.toMatchObject({
      code: 'FIRMWARE_INVALID',
    });
  });

  test('that are damaged are refused in one line each', () => {
    expect(spoilt(bytes => bytes.subarray(0, 9000))).toBe('spoilt.bin: it has 9000 bytes, and its header says 140004');
    expect(spoilt(bytes => bytes.subarray(0, 10))).toBe("spoilt.bin: it has 10 bytes, fewer than a module's header");
    expect(spoilt(bytes => Buffer.concat([bytes, Buffer.from('x')]))).toContain('and its header says 140004');
    expect(spoilt(() => Buffer.alloc(300_000))).toBe(
      'spoilt.bin: it has 300000 bytes, and system-part1 has room for 262144',
    );
    expect(spoilt(bytes => void (bytes[5000] = bytes[5000]! ^ 1))).toBe(
      'spoilt.bin: it has another CRC-32 than its bytes: it is damaged',
    );
    expect(spoilt(bytes => void (bytes[5000] = bytes[5000]! ^ 1), true)).toBe(
      'spoilt.bin: it has another SHA-256 in its suffix than its bytes: it is damaged, or was changed',
    );
    expect(spoilt(bytes => void bytes.writeUInt16LE(36, bytes.length - 6), true)).toContain('its suffix has 36 bytes');
    expect(spoilt(bytes => void (bytes[9] = 2), true)).toBe(
      'spoilt.bin: it has the flags 0x2: it is packed, and not as it lies in flash',
    );
    expect(refused({ 'user-part': 'nowhere.bin' })).toBe("nowhere.bin: it can't be read (ENOENT)");
    mkdirSync(folder.file('a-folder'));
    expect(refused({ 'user-part': 'a-folder' })).toBe('a-folder: it is no file');
  });

  test('that belong elsewhere are refused', () => {
    const written = (more: Partial<Parameters<typeof makeModule>[0]>): string => {
      writeFileSync(folder.file('other.bin'), makeModule({ ...partFacts(300).part1, ...more }));
      return refused({ 'system-part1': 'other.bin' });
    };
    expect(refused({ 'system-part1': 'part2-300.bin' })).toBe(
      'part2-300.bin: it is system part 2 and not system-part1',
    );
    expect(written({ start: 0x0802_1000 })).toBe('other.bin: it begins at 0x08021000 and not at 0x08020000');
    expect(written({ fn: 2, index: 0 })).toBe('other.bin: it is a bootloader, which can not be written over DFU');
    expect(spoilt(bytes => void bytes.writeUInt16LE(10, 12), true)).toBe(
      'spoilt.bin: it is for platform 10, and neither for a Photon (6) nor a P1 (8)',
    );
  });

  test('that do not belong together are refused', () => {
    writeFileSync(folder.file('p1.bin'), makeModule({ ...partFacts(300).part2, platform: 'p1' }));
    expect(refused({ 'system-part1': 'part1-300.bin', 'system-part2': 'p1.bin' })).toBe(
      'p1.bin: it is for a P1, and part1-300.bin for a Photon',
    );
    writeParts(folder.path, 207);
    expect(refused({ 'system-part1': 'part1-207.bin', 'system-part2': 'part2-300.bin' })).toBe(
      'part2-300.bin: system-part2 version 300 needs system-part1 of version 300 or newer, and there is version 207',
    );
    // What a part needs of one that is not given is for the device to tell.
    expect(firmwareOf({ 'system-part2': 'part2-300.bin' }, jobFile(), NO_FIRMWARE)).toHaveLength(1);
  });
});

describe('a job', () => {
  test('repair flashes the system parts that are configured, and is refused where none are', () => {
    const jobs = new URL('../../jobs', import.meta.url).pathname;
    const configured = { ...NO_FIRMWARE, 'system-part1': parts.part1.file, 'system-part2': parts.part2.file };
    const job = loadJob('repair', jobs, KEEP, configured);
    expect(job.plan.firmware?.map(({ slot }) => slot)).toEqual(['system-part1', 'system-part2']);
    expect(job.plan).toMatchObject({ newKey: true, writes: true, sends: true, leaves: true });
    expect(job.steps.slice(0, 3).map(({ name }) => name)).toEqual(['identify', 'firmware', 'preflight']);
    expect(() => loadJob('repair', jobs, KEEP)).toThrow(
      expect.objectContaining({
        code: 'CONFIG_INVALID',
        message: 'the job flashes the configured system-part1, and none is configured',
      }),
    );
  });

  test('with a firmware step that names no part, or stands in the wrong place, is refused', () => {
    expect(refusalOf(jobText(['identify', 'firmware']))).toContain('`firmware` names no part');
    expect(refusalOf(jobText(['identify', 'preflight', 'firmware: {user-part: x.bin}']))).toContain(
      'step `firmware` must stand before `preflight`',
    );
    expect(refusalOf(jobText(['firmware: {user-part: x.bin}']))).toContain('needs the step `identify`');
    expect(refusalOf(jobText(['identify', 'firmware: {bootloader: x.bin}']))).toContain('unknown option');
    expect(() => readJob(jobText(['identify', 'firmware: {user-part: /nowhere/x.bin}']))).toThrow(
      expect.objectContaining({ code: 'FIRMWARE_INVALID' }),
    );
    expect(readFileSync(join(folder.path, 'part1-300.bin'))).toHaveLength(140_004);
  });
});
