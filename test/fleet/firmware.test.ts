import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { modulesIn } from '#src/job/firmware-files.ts';
import { rowFirmware } from '#src/job/row-firmware.ts';
import { factoryImage, makeModule } from '#src/sim/photon-modules.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { partFacts, writeParts } from '../support/firmware-files.ts';
import { roundTheLadder, Station, type RunSettings } from '../support/station.ts';

const PART1 = [0x0802_0000, 0x0804_0000];
const PART2 = [0x0806_0000, 0x0808_0000];
const USER = 0x080a_0000;

let folder: string;
let parts: ReturnType<typeof writeParts>;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'photon-fleet-parts-'));
  parts = writeParts(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

let jobs = 0;

/** A job with the step `firmware` alone, or with more steps behind it. */
function jobOf(
  files: Partial<Record<'system-part1' | 'system-part2' | 'user-part', string>>,
  ...more: string[]
): string {
  const options = Object.entries(files).map(([slot, file]) => `      ${slot}: ${file}\n`);
  const steps = more.map(step => `  - ${step}\n`);
  const file = join(folder, `job-${(jobs += 1)}.yaml`);
  writeFileSync(file, `name: flash\nsteps:\n  - identify\n  - firmware:\n${options.join('')}${steps.join('')}`);
  return file;
}

const both = () => ({ 'system-part1': 'part1-300.bin', 'system-part2': 'part2-300.bin' });

function configured(): RunSettings {
  const firmware = { 'system-part1': parts.part1.file, 'system-part2': parts.part2.file, 'user-part': null };
  return { job: 'repair', firmware };
}

async function onDevice(station: Station, { address, bytes }: { address: number; bytes: Buffer }): Promise<boolean> {
  return (await station.flash(0, address, bytes.length)).equals(bytes);
}

function erased(station: Station): number[] {
  return station.rack.devices[0]!.photon.record.erased;
}

async function stepsOf(station: Station): Promise<string[]> {
  const { attempts } = await station.history(station.id(0));
  return attempts.at(-1)!.steps.map(({ name, state }) => `${name} ${state}`);
}

async function expectWhole(station: Station): Promise<void> {
  expect(await station.store.call('checkRecord', undefined)).toEqual([]);
  expect(await station.store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
  expect(station.rack.devices[0]!.photon.record.violations).toEqual([]);
}

describe('a device with a broken system part', () => {
  test('is flashed, byte for byte, and after a reset gets its key by the same job', async () => {
    await using station = await Station.open({ faults: ['#1:dct-zeros'] });
    const first = await station.run(configured());
    const settled = first.devices.get(station.id(0));
    expect(settled).toMatchObject({ outcome: 'error', code: 'RESET_NEEDED' });
    expect(settled?.message).toMatchInlineSnapshot(
      `"the system parts are new: the device has to start anew before its DCT can be touched"`,
    );
    expect(await onDevice(station, parts.part1)).toBe(true);
    expect(await onDevice(station, parts.part2)).toBe(true);
    expect(erased(station)).toEqual([...PART1, ...PART2]);
    expect(await stepsOf(station)).toEqual(['identify ok', 'firmware failed', 'ask-replug ok']);

    const device = station.rack.devices[0]!;
    station.rack.unplug(device.busId);
    station.rack.plug(device.busId);
    const second = await station.run(configured());
    expect(second.summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect((await stepsOf(station)).slice(0, 3)).toEqual(['identify ok', 'firmware skipped', 'preflight ok']);
    expect(erased(station)).toHaveLength(4);
    await expectWhole(station);
  });

  test('is repaired in one go where it may be switched: flashed, started anew, back in DFU mode, re-keyed, gone', async () => {
    const boots = { boots: true, clock: new LeapingClock() };
    await using station = await Station.open({ count: 3, ...boots, faults: ['#1:dct-zeros', '#3:dct-zeros'] });
    const { summary, events } = await station.run({ ...configured(), enterDfu: true, confirm: 'normal' });
    expect(summary).toMatchObject({ pass: 3, exitCode: 0 });
    const told = events.flatMap(event =>
      event.type === 'step' && event.deviceId === station.id(0) ? [event.step] : [],
    );
    const sectors = ['system-part1 1/2', 'system-part1 2/2', 'system-part2 1/2', 'system-part2 2/2'];
    expect(told.slice(0, 7)).toEqual([
      'identify',
      'firmware',
      ...sectors.map(sector => `firmware ${sector}`),
      'back-in-dfu',
    ]);
    expect(await stepsOf(station)).toEqual([
      ...['identify ok', 'firmware failed', 'back-in-dfu ok', 'identify ok', 'firmware skipped', 'preflight ok'],
      ...['backup ok', 'new-key ok', 'write ok', 'verify ok', 'send ok', 'leave ok', 'confirm-normal ok'],
    ]);
    for (const { photon, mode } of station.rack.devices) {
      expect([photon.record.violations, mode]).toEqual([[], 'normal']);
    }
  });

  test('that does not come back after its reset is said to be so, and the next run goes on', async () => {
    const boots = { boots: true, clock: new LeapingClock() };
    await using station = await Station.open({ ...boots, faults: ['#1:dct-zeros', '#1:no-boot'] });
    const { devices } = await station.run({ ...configured(), enterDfu: true });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'RESET_NEEDED' });
    expect((await stepsOf(station)).slice(-2)).toEqual(['back-in-dfu failed', 'ask-replug ok']);
    station.rack.enterDfu(station.rack.devices[0]!.busId);
    expect((await station.run(configured())).summary).toMatchObject({ pass: 1, exitCode: 0 });
  });

  test('has its raw copies on disk, and the intent, before the first sector is erased', async () => {
    await using station = await Station.open({ faults: ['#1:dct-zeros'] });
    const order: string[] = [];
    await station.run({
      ...configured(),
      ledger: real => ({
        ...real,
        saveBackup: async backup => {
          const saved = await real.saveBackup(backup);
          order.push(`${backup.classification} kept, ${erased(station).length} erased`);
          return saved;
        },
        beginFlash: async flash => {
          const begun = await real.beginFlash(flash);
          order.push(`begun, ${erased(station).length} erased`);
          return begun;
        },
        endFlash: async flash => {
          order.push(`ended, ${erased(station).length} erased`);
          await real.endFlash(flash);
        },
      }),
    });
    expect(order).toEqual(['raw-dct kept, 0 erased', 'begun, 0 erased', 'ended, 4 erased']);
  });

  test('of which nothing is kept is not flashed', async () => {
    await using station = await Station.open({ faults: ['#1:dct-zeros'] });
    const { devices } = await station.run({
      ...configured(),
      ledger: real => ({ ...real, saveBackup: () => Promise.reject(new Error('the disk is full')) }),
    });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'BUG' });
    expect(erased(station)).toEqual([]);
  });

  test('is on record with what was there, what is there, and what was flashed', async () => {
    await using station = await Station.open({ faults: ['#1:dct-zeros'] });
    await station.run(configured());
    const { modules, flashings, events } = await station.history(station.id(0));
    expect(modules.map(({ slot, state, version }) => `${slot} ${state} ${version ?? '-'}`)).toEqual([
      'system-part1 whole 207',
      'system-part2 wrong-crc 207',
      'user-part empty -',
      'system-part1 whole 300',
      'system-part2 whole 300',
    ]);
    expect(flashings).toMatchObject([
      {
        state: 'whole',
        wanted: [
          { slot: 'system-part1', version: 300, sha256: modules[3]!.sha256 },
          { slot: 'system-part2', version: 300, sha256: modules[4]!.sha256 },
        ],
      },
    ]);
    expect(flashings[0]!.endedAt).not.toBeNull();
    expect(events.map(({ event }) => event)).toEqual([
      'device-seen',
      'modules-seen',
      'backup-taken',
      'flash-begun',
      'flashed',
      'row-settled',
    ]);
    await expectWhole(station);
  });
});

describe('a device on which', () => {
  test('nothing differs is skipped: nothing is erased, and no flashing goes on record', async () => {
    await using station = await Station.open();
    const name = join(folder, 'factory-part2.bin');
    const factory = Buffer.from(factoryImage('photon').get(PART2[0]!)!);
    const length = factory.readUInt32LE(4) - PART2[0]! + 4;
    writeFileSync(name, factory.subarray(0, length));
    const { summary } = await station.run({ job: jobOf({ 'system-part2': name }, 'leave') });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(await stepsOf(station)).toEqual(['identify ok', 'firmware skipped', 'leave ok']);
    expect(erased(station)).toEqual([]);
    expect((await station.history(station.id(0))).flashings).toEqual([]);
    await expectWhole(station);
  });

  test('one sector of a part differs has that sector written and no other', async () => {
    await using station = await Station.open({ stateDir: join(folder, 'one-sector') });
    await station.run({ job: jobOf(both()) });
    expect(erased(station)).toEqual([...PART1, ...PART2]);
    const file = join(folder, 'one-sector', '0001-internal-08080000.bin');
    const sector = readFileSync(file);
    sector[4097] = sector[4097]! ^ 1;
    await station.rack.close();
    writeFileSync(file, sector);
    await station.refit();
    const { devices } = await station.run({ job: jobOf(both()) });
    expect(devices.get(station.id(0))).toMatchObject({ code: 'RESET_NEEDED' });
    expect(erased(station)).toEqual([PART2[1]]);
    expect(await onDevice(station, parts.part2)).toBe(true);
    await expectWhole(station);
  });

  test('a user part alone is new goes on without a reset', async () => {
    await using station = await Station.open();
    const facts = { ...partFacts(300).user, dependencies: [[4, 2, 207]] as const };
    const bytes = makeModule(facts);
    writeFileSync(join(folder, 'user-207.bin'), bytes);
    const { summary } = await station.run({ job: jobOf({ 'user-part': 'user-207.bin' }, 'preflight', 'backup') });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(await onDevice(station, { address: USER, bytes })).toBe(true);
    expect(erased(station)).toEqual([USER]);
    expect((await station.history(station.id(0))).backups.map(({ classification }) => classification)).not.toContain(
      'raw-dct',
    );
    await expectWhole(station);
  });
});

describe('a device with new system parts that has not started anew', () => {
  test('is not asked for its DCT by any job, however often it is tried, until it has', async () => {
    await using station = await Station.open({ faults: ['#1:dct-zeros'] });
    await station.run(configured());
    for (const settings of [
      configured(),
      {},
      { job: 'backup' },
      { job: jobOf({ 'user-part': 'user-300.bin' }, 'preflight') },
    ]) {
      const { devices } = await station.run({ ...settings, retryFailed: true });
      expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'RESET_NEEDED' });
    }
    await expectWhole(station);
    const { busId } = station.rack.devices[0]!;
    station.rack.unplug(busId);
    station.rack.plug(busId);
    expect((await station.run({ retryFailed: true })).summary).toMatchObject({ pass: 1 });
    await expectWhole(station);
  });

  test('and one that is between parts is refused by jobs that do not finish it', async () => {
    await using station = await Station.open({ faults: ['#1:unplug:write:34'] });
    await station.run({ job: jobOf(both()) });
    station.rack.plug(station.rack.devices[0]!.busId);
    for (const job of ['rekey', 'backup', jobOf({ 'user-part': 'user-300.bin' }, 'preflight')]) {
      const { devices } = await station.run({ job });
      expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'UNFINISHED_WRITE' });
    }
    expect((await station.run({ job: jobOf(both()) })).devices.get(station.id(0))).toMatchObject({
      code: 'RESET_NEEDED',
    });
    await expectWhole(station);
  });
});

test('a row may have modules of its own, in place of the job’s', async () => {
  await using station = await Station.open({ count: 2 });
  const user = (version: number): Buffer => {
    const bytes = makeModule({ ...partFacts(300).user, version, dependencies: [[4, 2, 207]] });
    writeFileSync(join(folder, `user-v${version}.bin`), bytes);
    return bytes;
  };
  const [usual, own] = [user(5), user(6)];
  const [first, second] = station.rows();
  const rows = [first!, { ...second!, extra: { user_part: 'user-v6.bin' } }];
  const ofJob = modulesIn(new Map([['user-part', join(folder, 'user-v5.bin')]]));
  const rowsOwn = rowFirmware(ofJob, rows, join(folder, 'rack.csv'));
  const job = jobOf({ 'user-part': 'user-v5.bin' });
  expect((await station.run({ job, rows, rowFirmware: rowsOwn })).summary).toMatchObject({ pass: 2 });
  expect((await station.flash(0, USER, usual.length)).equals(usual)).toBe(true);
  expect((await station.flash(1, USER, own.length)).equals(own)).toBe(true);
});

describe('a device that fails in the middle', () => {
  test('is taken up by the next run with the sector that it had come to', async () => {
    await using station = await Station.open({ faults: ['#1:dct-zeros', '#1:unplug:write:34'] });
    const { busId } = station.rack.devices[0]!;
    const first = await station.run({ job: jobOf(both()) });
    expect(first.devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'USB_GONE' });
    expect(erased(station)).toEqual(PART1);
    const between = await station.history(station.id(0));
    expect(between.flashings).toMatchObject([{ state: 'writing', endedAt: null }]);
    expect(between.backups).toHaveLength(1);

    station.rack.plug(busId);
    const second = await station.run({ job: jobOf(both()) });
    expect(second.devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'RESET_NEEDED' });
    expect(erased(station)).toEqual([...PART1, PART1[1], ...PART2]);
    expect(await onDevice(station, parts.part1)).toBe(true);
    expect(await onDevice(station, parts.part2)).toBe(true);
    const { flashings, backups } = await station.history(station.id(0));
    expect(flashings).toMatchObject([{ state: 'whole' }]);
    expect(backups).toHaveLength(1);
    await expectWhole(station);
  });

  test('with system-part2 erased and still empty is not asked for its DCT, which would hang it', async () => {
    await using station = await Station.open({ faults: ['#1:write-stall:36'] });
    const { devices } = await station.run({ job: jobOf(both()) });
    expect(devices.get(station.id(0))).toMatchObject({ code: 'RESET_NEEDED' });
    expect(await stepsOf(station)).toEqual([
      'identify ok',
      'firmware failed',
      'again ok',
      'identify ok',
      'firmware failed',
      'ask-replug ok',
    ]);
    expect(erased(station)).toEqual([...PART1, PART2[0], ...PART2]);
    expect(await onDevice(station, parts.part2)).toBe(true);
    await expectWhole(station);
  });

  test('of which a block was dropped is read back, and that sector is written once more', async () => {
    await using station = await Station.open({ faults: ['#1:write-drop:34'] });
    const { devices } = await station.run({ job: jobOf(both()) });
    expect(devices.get(station.id(0))).toMatchObject({ code: 'RESET_NEEDED' });
    expect(erased(station)).toEqual([...PART1, PART1[1], ...PART2]);
    expect((await station.history(station.id(0))).flashings).toMatchObject([{ state: 'whole' }]);
    await expectWhole(station);
  });

  test('is not left in the midst of a part by an interrupt, and goes on with the next part in the next run', async () => {
    await using station = await Station.open();
    const stop = new AbortController();
    station.rack.devices[0]!.photon.record.listen(() => {
      if (erased(station).length === 1) stop.abort();
    });
    const { devices } = await station.run({ job: jobOf(both()), drain: stop.signal });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'aborted', code: 'INTERRUPTED' });
    expect(devices.get(station.id(0))?.message).toBe('interrupted before system-part2 was written');
    expect(erased(station)).toEqual(PART1);
    expect(await onDevice(station, parts.part1)).toBe(true);
    const second = await station.run({ job: jobOf(both()) });
    expect(second.devices.get(station.id(0))).toMatchObject({ code: 'RESET_NEEDED' });
    expect(erased(station)).toEqual([...PART1, ...PART2]);
    await expectWhole(station);
  });

  test('with system-part2 empty is refused by every job that does not mend it, before it could hang', async () => {
    await using station = await Station.open({ faults: roundTheLadder('#1:write-stall:36') });
    const first = await station.run({ job: jobOf(both()) });
    expect(first.devices.get(station.id(0))).toMatchObject({ outcome: 'fail', code: 'WRITE_FAILED' });
    const second = await station.run();
    expect(second.devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'UNFINISHED_WRITE' });
    const third = await station.run({ job: jobOf(both()), retryFailed: true });
    expect(third.devices.get(station.id(0))).toMatchObject({ code: 'RESET_NEEDED' });
    await expectWhole(station);
  });

  test('whose flash is bad is no pass', async () => {
    await using station = await Station.open({ faults: ['#1:write-flip'] });
    const { devices } = await station.run({ job: jobOf(both()) });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'fail', code: 'VERIFY_MISMATCH' });
    expect((await station.history(station.id(0))).flashings).toMatchObject([{ state: 'writing', endedAt: null }]);
    await expectWhole(station);
  });
});

describe('nothing is written to', () => {
  test('a P1 where the modules are for a Photon', async () => {
    await using station = await Station.open({ platform: 'p1' });
    const { devices } = await station.run({ job: jobOf(both()) });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'FIRMWARE_WRONG_PLATFORM' });
    expect(devices.get(station.id(0))?.message).toMatch(/part1-300\.bin is for a Photon, and this is a P1$/);
    expect(erased(station)).toEqual([]);
  });

  test('a device whose other modules do not fit to the new one', async () => {
    await using station = await Station.open();
    const { devices } = await station.run({ job: jobOf({ 'system-part2': 'part2-300.bin' }) });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'FIRMWARE_DEPENDENCY' });
    expect(devices.get(station.id(0))?.message).toMatchInlineSnapshot(
      `"the modules would not fit together: system-part2 version 300 needs system-part1 of version 300 or newer, and there is version 207"`,
    );
    expect(erased(station)).toEqual([]);
    await expectWhole(station);
  });
});
