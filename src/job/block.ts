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
  const key = { from: DCT.DEVICE_PRIVATE_KEY.offset, to: DCT.DEVICE_PUBLIC_KEY.offset + DCT.DEVICE_PUBLIC_KEY.length };
  const server = {
    from: DCT.SERVER_PUBLIC_KEY.offset,
    to: DCT.SERVER_PUBLIC_KEY.offset + DCT.SERVER_PUBLIC_KEY.length,
  };
  const withServer = changesServer(plan.server);
  const from = plan.newKey ? key.from : server.from;
  const to = withServer ? server.to : key.to;
  if (to - from > MAX_TRANSFER_BYTES) throw new RangeError('the fields do not fit into one block');
  return { offset: from, length: to - from };
}

/** The block as it was read and as it will be: the job's fields laid over what is there. */
export function composeBlock(plan: JobPlan, dct: Buffer, pair: KeyPair | null): NonNullable<Work['block']> {
  const { offset, length } = blockRange(plan);
  const merged = Buffer.from(dct);
  try {
    if (pair) {
      setField(merged, DCT.DEVICE_PRIVATE_KEY, pair.privateDer);
      setField(merged, DCT.DEVICE_PUBLIC_KEY, pair.spki);
    }
    if (plan.restore) merged.set(plan.restore.block, DCT.DEVICE_PRIVATE_KEY.offset);
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
