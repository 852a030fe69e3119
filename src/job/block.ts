import { Fault } from '../core/errors.ts';
import { MAX_TRANSFER_BYTES } from '../dfu/dfu-device.ts';
import type { KeyPair } from '../keys/make-key-pair.ts';
import { DCT } from '../photon/dct.ts';
import type { JobPlan } from './job.ts';
import { applyServerChange, changesServer } from './server-change.ts';
import type { Work } from './work.ts';

/**
 * Where a job writes: from the first field that it changes to the end of the last one, in one DNLOAD block, since every
 * block rewrites a whole sector at once or not at all.
 */
export function blockRange(plan: JobPlan): { offset: number; length: number } {
  const fields = [
    ...(plan.newKey ? [DCT.DEVICE_PRIVATE_KEY, DCT.DEVICE_PUBLIC_KEY] : []),
    ...(plan.claims ? [DCT.CLAIM_CODE] : []),
    ...(changesServer(plan.server) ? [DCT.SERVER_PUBLIC_KEY] : []),
  ];
  const from = Math.min(...fields.map(({ offset }) => offset));
  const to = Math.max(...fields.map(({ offset, length }) => offset + length));
  if (!(to - from <= MAX_TRANSFER_BYTES)) throw new RangeError('the fields do not fit into one block');
  return { offset: from, length: to - from };
}

/** The block as it was read and as it will be: the job's fields laid over what is there. */
export function composeBlock(
  plan: JobPlan,
  dct: Buffer,
  pair: KeyPair | null,
  claimCode: Uint8Array | null = null,
): NonNullable<Work['block']> {
  if (plan.claims && claimCode?.length !== DCT.CLAIM_CODE.length)
    throw new RangeError('a block without its claim code');
  const { offset, length } = blockRange(plan);
  const merged = Buffer.from(dct);
  try {
    if (pair) {
      setField(merged, DCT.DEVICE_PRIVATE_KEY, pair.privateDer);
      setField(merged, DCT.DEVICE_PUBLIC_KEY, pair.spki);
    }
    if (plan.restore) merged.set(plan.restore.block, DCT.DEVICE_PRIVATE_KEY.offset);
    if (claimCode) merged.set(claimCode, DCT.CLAIM_CODE.offset);
    applyServerChange(merged, plan.server);
    return {
      offset,
      old: Buffer.from(dct.subarray(offset, offset + length)),
      next: Buffer.from(merged.subarray(offset, offset + length)),
    };
  } finally {
    merged.fill(0);
  }
}

/** Nothing of an earlier, longer key stays behind the new one. */
function setField(dct: Buffer, field: { offset: number; length: number }, bytes: Uint8Array): void {
  dct.fill(0xff, field.offset, field.offset + field.length);
  dct.set(bytes, field.offset);
}

/** The DCT of a session, which preflight has read. */
export function dctOf(work: Work): Buffer {
  if (!work.dct) throw new Fault('BUG', 'a step ran before preflight');
  return work.dct;
}

export function blockOf(work: Work): NonNullable<Work['block']> {
  if (!work.block) throw new Fault('BUG', 'a step ran before the block was made');
  return work.block;
}
