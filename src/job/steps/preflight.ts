import { allBytesAre, wipe } from '../../core/bytes.ts';
import { Fault, isUnreadableDct } from '../../core/errors.ts';
import type { OpenFlash } from '../../core/firmware-record.ts';
import type { DfuDevice } from '../../dfu/dfu-device.ts';
import { DCT } from '../../photon/dct.ts';
import { idFromDct } from '../../photon/identity.ts';
import { dctAlternate } from '../alternates.ts';
import { checkDctId } from '../dct-id.ts';
import { PARTS_ARE_NEW } from '../modules-on-device.ts';
import { metAs } from '../port-facts.ts';
import { keepRawCopies } from '../raw-copies.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step, StepContext } from '../step.ts';
import { decideResume, isOfThisJob, lacksClaimCode } from '../work.ts';
import type { Resume } from '../work.ts';

/**
 * Step 2: DFU idle, the alternate settings that a Photon has, the DCT readable and of this very device; then what the
 * record says of earlier writes.
 */
export const preflight: Step<NoOptions> = {
  name: 'preflight',
  options: NO_OPTIONS,
  deadlineMs: 30_000,
  async run(context) {
    const { subject, device, ledger, plan, work } = context;
    const { deviceId } = subject;
    work.alternate = dctAlternate(device);
    // Looked up while the device is brought to rest.
    const recorded = Promise.all([
      plan.firmware ? null : ledger.openFlash(deviceId),
      plan.writes ? ledger.openWrite(deviceId) : null,
    ]);
    recorded.catch(() => undefined); // told below, unless the device fails first
    await device.toIdle();
    const [openFlash, openWrite] = await recorded;
    checkBetweenParts(device, openFlash);
    const dct = await readDct(device, work.alternate).catch(async (error: unknown) => {
      if (!isUnreadableDct(error)) throw error;
      await keepRawCopies(context);
      if (!work.partsWhole) throw error;
      throw new Fault(
        'RESET_NEEDED',
        'the system parts are whole, and the DCT reads as zeros until the device starts anew',
        {
          facts: { path: device.port.path },
        },
      );
    });
    work.dct = dct;
    checkDctId(context, idFromDct(dct));
    if (!plan.writes) return 'ok';
    work.open = openWrite;
    work.resume = decideResume(work.open, dct);
    if (work.resume === 'conflict' && (context.again || plan.restore)) work.resume = 'anew';
    if (work.open && (!isOfThisJob(work.open, plan) || lacksClaimCode(work, plan))) {
      if (!plan.newKey) {
        const what = work.open.restores !== null ? 'restore' : work.open.key ? 're-key' : 'write';
        throw new Fault('UNFINISHED_WRITE', `a ${what} of this device was cut short and is not finished yet`);
      }
      // A key that the cloud refused is taken off the device first: else it could be what a roll-back comes back to.
      if (!waitsForRollBack(work.resume) || !plan.sends) work.resume = 'anew';
    }
    await mendOwnWrite(context);
    return 'ok';
  },
};

/**
 * A device whose system parts are being changed, or are new since it last started, may hang or crash when it is asked for its
 * DCT.
 * @throws Fault UNFINISHED_WRITE, RESET_NEEDED
 */
function checkBetweenParts(device: DfuDevice, last: OpenFlash | null): void {
  if (!last) return;
  const facts = { path: device.port.path };
  if (last.endedAs === metAs(device.port)) {
    throw new Fault('RESET_NEEDED', PARTS_ARE_NEW, { facts });
  }
  if (last.endedAs !== null || last.wanted.every(({ slot }) => slot === 'user-part')) return;
  throw new Fault('UNFINISHED_WRITE', 'a flashing of this device was cut short: it is between parts', { facts });
}

function waitsForRollBack(resume: Resume): boolean {
  return resume === 'roll-back' || resume === 'rolled-back' || resume === 'conflict';
}

/**
 * Neither block is there, and it was this session that wrote: its own block came out wrong, and is written once more.
 * What lies there now is nobody's: it goes into no backup and no block, and is nothing to roll back to.
 */
async function mendOwnWrite({ subject, vault, work }: StepContext): Promise<void> {
  const { open, resume, sentWriteId } = work;
  if (open?.writeId !== sentWriteId || (resume !== 'anew' && resume !== 'conflict')) return;
  if (open.phase !== 'writing' && open.phase !== 'rolling-back') return;
  wipe(work.dct ?? undefined);
  work.dct = await vault.open(open.backup.sealed, {
    purpose: 'backup',
    deviceId: subject.deviceId,
    generation: null,
    fingerprint: open.backup.fingerprint,
  });
  work.resume = open.phase === 'writing' ? 'write' : 'roll-back';
}

/**
 * Bytes 0..8390 of the DCT. With broken system parts the bootloader gives zeros and says OK.
 * @throws Fault DCT_UNREADABLE
 */
export async function readDct(device: DfuDevice, alternate: number): Promise<Buffer> {
  const bytes = await device.read(alternate, 0, DCT.LENGTH);
  if (allBytesAre(bytes, 0)) {
    throw new Fault('DCT_UNREADABLE', 'the DCT reads as zeros', { facts: { path: device.port.path } });
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
