import { z } from 'zod';
import { allBytesAre, wipe } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
import type { ModuleRecord, OpenFlash, WantedRecord } from '../../core/firmware-record.ts';
import { DCT } from '../../photon/dct.ts';
import { idFromDct } from '../../photon/identity.ts';
import { unmetDependency } from '../../photon/modules.ts';
import { dctAlternate } from '../alternates.ts';
import { checkDctId } from '../dct-id.ts';
import { nameOf } from '../firmware-files.ts';
import type { FirmwareOptions, WantedModule } from '../firmware-files.ts';
import { flashModule } from '../flash-module.ts';
import { flashAlternate, isPart2Empty, PARTS_ARE_NEW, readModules } from '../modules-on-device.ts';
import type { ModuleThere } from '../modules-on-device.ts';
import { metAs, platformOfPort } from '../port-facts.ts';
import { keepRawCopies } from '../raw-copies.ts';
import type { Step, StepContext } from '../step.ts';

const SYSTEM_PARTS = ['system-part1', 'system-part2'];

const file = z.string().min(1).optional();

/**
 * Before the DCT is looked at: the modules that the job names are on the device, every byte. Only sectors that differ are
 * written, so that a step which was cut goes on where it was.
 *
 * Alternate setting 1 is left alone where nothing may have been written yet into an erased system-part2, and after a
 * system part was written until the device has been reset: the bootloader reaches the DCT through those parts.
 */
export const firmware: Step<FirmwareOptions> = {
  name: 'firmware',
  options: z.strictObject({ 'system-part1': file, 'system-part2': file, 'user-part': file }),
  deadlineMs: 300_000,
  async run(context) {
    const { subject, attemptId, plan, device, ledger, clock, work } = context;
    const { deviceId } = subject;
    const wanted = subject.firmware ?? plan.firmware ?? [];
    checkPlatform(context, wanted);
    const alternate = flashAlternate(device);
    await device.toIdle();
    const before = await readModules(device);
    await ledger.noteModules({ deviceId, attemptId, modules: before.map(asRecord), at: clock.now() });
    const last = await ledger.openFlash(deviceId);
    const open = last?.endedAs === null ? last : null;
    // New system parts, and the device has not started anew since.
    const owed = last?.endedAs === metAs(device.port) ? last.wanted : [];
    checkGivenUp(context, open, wanted, before);
    checkDependencies(context, wanted, before);
    const differing = wanted.filter(module => !isThere(module, before));
    if (differing.length === 0) {
      if (owed.length > 0) return end(owed);
      if (!open || !open.wanted.every(module => isThere(module, before))) {
        checkPart2(context, before);
        work.partsWhole = SYSTEM_PARTS.every(slot => before.some(one => one.slot === slot && one.state === 'whole'));
        return 'skipped';
      }
      // Every byte was there when an earlier attempt was cut: what is missing is that it is on record, and the reset.
      const asNow = { endedAs: endedAs(device.port, open.wanted), modules: before.map(asRecord), at: clock.now() };
      await ledger.endFlash({ flashId: open.flashId, attemptId, ...asNow });
      return end(open.wanted);
    }
    stopWhereAsked(context, 'anything');
    if (!open && owed.length === 0) await keepUnreadable(context, before);
    const { flashId } = await ledger.beginFlash({ deviceId, attemptId, wanted: wanted.map(asWanted), at: clock.now() });
    for (const module of differing) {
      stopWhereAsked(context, module.slot);
      await flashModule(context, alternate, module);
    }
    const after = await readModules(device);
    const wrong = wanted.find(module => !isThere(module, after));
    if (wrong) {
      throw new Fault('VERIFY_MISMATCH', `${wrong.slot} is not what was written into it`, {
        facts: { path: device.port.path, slot: wrong.slot },
      });
    }
    const written = [...differing, ...(open?.wanted ?? []), ...owed];
    const asNow = { endedAs: endedAs(device.port, written), modules: after.map(asRecord), at: clock.now() };
    await ledger.endFlash({ flashId, attemptId, ...asNow });
    checkPart2(context, after);
    return end(written);
  },
};

/** @throws Fault RESET_NEEDED where one of these is a system part */
function end(written: readonly { readonly slot: string }[]): 'ok' {
  if (written.every(({ slot }) => slot === 'user-part')) return 'ok';
  throw new Fault('RESET_NEEDED', PARTS_ARE_NEW);
}

/** A part that an earlier flashing has begun is finished by a job that has it, and given up by none. @throws Fault UNFINISHED_WRITE */
function checkGivenUp(
  { device }: StepContext,
  open: OpenFlash | null,
  wanted: readonly WantedModule[],
  there: readonly ModuleThere[],
): void {
  const begun = open?.wanted.find(
    part => SYSTEM_PARTS.includes(part.slot) && !wanted.some(({ slot }) => slot === part.slot) && !isThere(part, there),
  );
  if (!begun) return;
  throw new Fault('UNFINISHED_WRITE', `a flashing of this device was cut short, and this job has no ${begun.slot}`, {
    facts: { path: device.port.path, slot: begun.slot },
  });
}

function endedAs(port: StepContext['device']['port'], written: readonly { readonly slot: string }[]): string | null {
  return written.some(({ slot }) => SYSTEM_PARTS.includes(slot)) ? metAs(port) : null;
}

/** Between parts, and never in the midst of one. @throws Fault INTERRUPTED */
function stopWhereAsked({ drain }: StepContext, what: string): void {
  if (drain.aborted) throw new Fault('INTERRUPTED', `interrupted before ${what} was written`);
}

/** Only modules of the device's own platform: those of the other one have drivers for other hardware. */
function checkPlatform({ device }: StepContext, wanted: readonly WantedModule[]): void {
  const platform = platformOfPort(device.port)?.platform ?? null;
  const stranger = wanted.find(module => module.platform !== platform);
  if (!stranger) return;
  const here = platform === null ? 'neither a Photon nor a P1' : `a ${nameOf(platform)}`;
  throw new Fault(
    'FIRMWARE_WRONG_PLATFORM',
    `${stranger.file} is for a ${nameOf(stranger.platform)}, and this is ${here}`,
    {
      facts: { path: device.port.path, slot: stranger.slot },
    },
  );
}

/** What will stand on the device together has to fit together. */
function checkDependencies(
  { device }: StepContext,
  wanted: readonly WantedModule[],
  there: readonly ModuleThere[],
): void {
  const standing = there.map(module => {
    const next = wanted.find(({ slot }) => slot === module.slot);
    if (next) return { slot: next.slot, ...next.header };
    const isWhole = module.state === 'whole';
    return { ...module, version: isWhole ? module.version : null };
  });
  const unmet = unmetDependency(standing);
  if (unmet === null) return;
  throw new Fault('FIRMWARE_DEPENDENCY', `the modules would not fit together: ${unmet}`, {
    facts: { path: device.port.path },
  });
}

/**
 * Where the DCT can't be read its raw copies are kept before anything is flashed: the only copy of its keys. An empty
 * system-part2 may have been erased a moment ago, and then asking for the DCT hangs the bootloader: it is taken for
 * unreadable. An attempt that found an earlier flashing under way has them already, or could read the DCT then.
 */
async function keepUnreadable(context: StepContext, there: readonly ModuleThere[]): Promise<void> {
  const { device } = context;
  if (!isPart2Empty(there)) {
    const dct = await device.read(dctAlternate(device), 0, DCT.LENGTH);
    const isReadable = !allBytesAre(dct, 0);
    const id = isReadable ? idFromDct(dct) : null;
    wipe(dct);
    checkDctId(context, id);
    if (isReadable) return;
  }
  await keepRawCopies(context);
}

/** @throws Fault DCT_UNREADABLE: the steps that follow would ask for the DCT */
function checkPart2({ device }: StepContext, there: readonly ModuleThere[]): void {
  if (!isPart2Empty(there)) return;
  throw new Fault('DCT_UNREADABLE', 'system-part2 is empty, and without it there is no way to the DCT', {
    facts: { path: device.port.path },
  });
}

function isThere(wanted: { readonly slot: string; readonly sha256: string }, there: readonly ModuleThere[]): boolean {
  return there.some(({ slot, state, sha256 }) => slot === wanted.slot && state === 'whole' && sha256 === wanted.sha256);
}

function asRecord({ slot, state, version, platform, sha256, function: fn }: ModuleThere): ModuleRecord {
  return { slot, state, version, function: fn, platform, sha256 };
}

function asWanted({ slot, header, sha256 }: WantedModule): WantedRecord {
  return { slot, version: header.version, sha256 };
}
