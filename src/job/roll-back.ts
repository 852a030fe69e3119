import { sameBytes, sha256Hex, wipe } from '../core/bytes.ts';
import { Fault, toFault } from '../core/errors.ts';
import type { FaultCode } from '../core/errors.ts';
import { isUncertain } from '../core/ledger.ts';
import type { RefusalDoubt } from '../core/ledger.ts';
import { classifyPrivateKey } from '../photon/classify-key.ts';
import { DCT, fieldOf } from '../photon/dct.ts';
import type { PublicKey } from '../keys/public-key.ts';
import type { StepContext } from './step.ts';
import { untilNoSendIsInFlight } from './steps/write.ts';

/**
 * Puts the block that was on the device before back, byte for byte, verifies it, and makes the earlier key current on
 * record. After a refusal that leaves a doubt the cloud is told the old key again, since it may hold the refused one.
 * @param how.alreadyThere the old bytes were found on the device: only the record is left to do
 * @throws Fault ROLLBACK_FAILED; the next run finishes it
 */
export async function rollBack(
  context: StepContext,
  how: { doubt: RefusalDoubt; alreadyThere: boolean },
): Promise<void> {
  const { ledger, sender, clock, work } = context;
  const { writeId } = work;
  if (writeId === null) throw new Fault('BUG', 'a roll-back without a write');
  work.cloud = 'refused';
  await untilNoSendIsInFlight(context, () => ledger.markRollingBack({ writeId, at: clock.now() }));
  const old = await oldBlock(context);
  const oldKey = old.publicKey;
  try {
    if (!how.alreadyThere) await putBack(context, old);
  } finally {
    wipe(old.bytes);
  }
  const { sendId } = await ledger.markRolledBack({
    writeId,
    at: clock.now(),
    oldFingerprint: oldKey?.fingerprint ?? null,
    resend: how.doubt !== 'none' && oldKey ? { fingerprint: oldKey.fingerprint, publicPem: oldKey.pem } : null,
  });
  work.fingerprint = oldKey?.fingerprint ?? null;
  // Whatever the answer, it is on record: the row is refused all the same.
  if (sendId !== null) await sender.deliver(sendId);
}

/**
 * Rolls back, and ends the session as refused.
 * @param why.code where the cloud can be told the old key for certain
 */
export async function takeBack(
  context: StepContext,
  how: Parameters<typeof rollBack>[1],
  said: string,
  { code = 'CLOUD_REFUSED', hint }: { code?: FaultCode; hint?: string } = {},
): Promise<never> {
  await rollBack(context, how);
  const { restore } = context.plan;
  const told = restore ? 'claim the device for this account, then ask for the restore again' : hint;
  const isDoubtful = isUncertain(how.doubt, context.work.backup?.fingerprint ?? null);
  throw new Fault(
    isDoubtful ? 'CLOUD_KEY_UNCERTAIN' : code,
    `${said}; the ${restore ? 'key that it had' : 'old key'} is back on the device`,
    told !== undefined && (restore || !isDoubtful) ? { hint: told } : {},
  );
}

interface OldBlock {
  readonly offset: number;
  readonly bytes: Buffer;
  readonly publicKey: PublicKey | null;
}

/** From this session's own read, or from the sealed backup of the one that was cut short. */
async function oldBlock({ subject, vault, work }: StepContext): Promise<OldBlock> {
  if (work.block) {
    return {
      offset: work.block.offset,
      bytes: Buffer.from(work.block.old),
      publicKey: work.backup?.publicKey ?? null,
    };
  }
  const { open } = work;
  if (!open) throw new Fault('BUG', 'a roll-back without the old block');
  const dct = await vault.open(open.backup.sealed, {
    purpose: 'backup',
    deviceId: subject.deviceId,
    generation: null,
    fingerprint: open.backup.fingerprint,
  });
  const { publicKey } = classifyPrivateKey(fieldOf(dct, DCT.DEVICE_PRIVATE_KEY));
  const bytes = Buffer.from(dct.subarray(open.offset, open.offset + open.length));
  wipe(dct);
  if (sha256Hex(bytes) !== open.oldSha256) {
    wipe(bytes);
    throw new Fault('VAULT_SEALED_WRONG', 'the backup is not that of the write which is to be taken back');
  }
  return { offset: open.offset, bytes, publicKey };
}

async function putBack({ device, work }: StepContext, { offset, bytes }: OldBlock): Promise<void> {
  try {
    await device.toIdle();
    work.sentWriteId = work.writeId;
    await device.writeBlock(work.alternate, offset, bytes);
    const there = await device.read(work.alternate, offset, bytes.length);
    const same = sameBytes(there, bytes);
    wipe(there);
    if (!same) throw new Fault('VERIFY_MISMATCH', 'what was read back is not the old block');
  } catch (cause) {
    const { code, message } = toFault(cause);
    throw new Fault(
      'ROLLBACK_FAILED',
      `the cloud refused the key, and the old one could not be put back (${code}: ${message})`,
      {
        facts: { path: device.port.path },
        cause,
      },
    );
  }
}
