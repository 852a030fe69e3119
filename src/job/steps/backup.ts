import { firstDifference, sha256Hex, wipe } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
import { classifyPrivateKey } from '../../photon/classify-key.ts';
import { DCT, fieldOf } from '../../photon/dct.ts';
import { blockRange, dctOf } from '../block.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step, StepContext } from '../step.ts';

/**
 * Step 3: all of the DCT, proven by a second read of what will be written (of everything, where nothing will), hashed,
 * classified, sealed and on disk. A backup never overwrites another.
 */
export const backup: Step<NoOptions> = {
  name: 'backup',
  options: NO_OPTIONS,
  deadlineMs: 30_000,
  async run(context) {
    const { subject, attemptId, ledger, vault, clock, work } = context;
    const dct = dctOf(work);
    const { classification, publicKey } = classifyPrivateKey(fieldOf(dct, DCT.DEVICE_PRIVATE_KEY));
    const sha256 = sha256Hex(dct);
    if (work.open && (isPastBackup(work.resume) || (work.resume === 'write' && work.open.backup.sha256 === sha256))) {
      work.backup = { ...work.open.backup, publicKey };
      return 'skipped';
    }
    const takenAt = clock.now();
    const fingerprint = publicKey?.fingerprint ?? null;
    const { deviceId } = subject;
    // Sealed in another thread meanwhile, and kept only once the bytes are proven.
    const sealing = vault.seal(dct, { purpose: 'backup', deviceId, generation: null, fingerprint, at: takenAt });
    sealing.catch(() => undefined); // told below, unless the read fails first
    await readAgain(context, dct);
    const sealed = await sealing;
    const record = { takenAt, sha256, bytes: dct.length, classification, fingerprint };
    const { backupId } = await ledger.saveBackup({ deviceId, attemptId, ...record, sealed });
    work.backup = { backupId, ...record, publicKey };
    if (!context.plan.newKey) work.fingerprint = fingerprint;
    if (work.resume === 'conflict') {
      throw new Fault(
        'ROLLBACK_CONFLICT',
        'the refused key can not be taken back: other bytes are on the device by now',
      );
    }
    return 'ok';
  },
};

/** From here on the backup of the open write is the one that counts: what is on the device now is our own key. */
function isPastBackup(resume: string): boolean {
  return ['verify', 'send', 'leave', 'roll-back', 'rolled-back'].includes(resume);
}

async function readAgain({ device, plan, work }: StepContext, dct: Buffer): Promise<void> {
  const flags = DCT.FLAGS.offset + DCT.FLAGS.length; // the bootloader changes these by itself
  const { offset, length } = plan.writes ? blockRange(plan) : { offset: flags, length: DCT.LENGTH - flags };
  const second = await device.read(work.alternate, offset, length);
  const at = firstDifference(second, dct.subarray(offset, offset + length));
  wipe(second);
  if (at >= 0) {
    throw new Fault('READ_UNSTABLE', `two reads of the DCT differ at byte ${offset + at}`, {
      facts: { path: device.port.path, offset: offset + at },
    });
  }
}
