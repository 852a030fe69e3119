import { z } from 'zod';
import { sameBytes, sha256Hex } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
import type { NewKey } from '../../core/ledger.ts';
import { DEVICE_KEY_BITS } from '../../keys/make-key-pair.ts';
import { blockOf, composeBlock, dctOf } from '../block.ts';
import type { ServerOptions } from '../server-change.ts';
import type { Step, StepContext } from '../step.ts';
import { oldBlockIsThere } from '../work.ts';
import { parseServerHost } from '../../core/hosts.ts';

/** Longer than the longest lease: two minutes of `cloud.timeoutMs`, and its margin. */
const IN_FLIGHT_WAIT_MS = 150_000;
const IN_FLIGHT_LOOK_EVERY_MS = 250;

/**
 * Step 5: the intent is committed (key sealed, hashes of the old and the new block, fsync), then one DNLOAD block is
 * written, all or nothing.
 */
export const write: Step<ServerOptions> = {
  name: 'write',
  options: z.strictObject({
    'server-key': z.string().min(1).default('keep'),
    'server-host': z
      .string()
      .trim()
      .toLowerCase()
      .refine(host => parseServerHost(host) !== null, 'a domain of at most 63 characters, or an IPv4 address')
      .optional(),
    'server-port': z.int().min(1).max(65534).optional(),
  }),
  deadlineMs: 240_000,
  async run(context) {
    const { device, ledger, clock, work, drain, plan } = context;
    const { open } = work;
    if (plan.restore) work.note = plan.restore.warning;
    if (open && work.resume !== 'fresh' && work.resume !== 'anew') {
      work.writeId = open.writeId;
      work.sendId = open.key?.sendId ?? null;
      work.underWay = true;
      if (work.resume !== 'write') return 'skipped';
    }
    if (drain.aborted && !work.underWay) throw new Fault('INTERRUPTED', 'interrupted before anything was written');
    work.block ??= composeBlock(plan, dctOf(work), null);
    if (work.resume === 'write' && sha256Hex(work.block.next) !== open?.newSha256) {
      work.resume = 'anew'; // the job says something else by now
    }
    const { resume } = work;
    if (resume === 'fresh' || resume === 'anew') await prepare(context);
    const writeId = work.writeId;
    if (writeId === null) throw new Fault('BUG', 'a write without an intent on record');
    work.underWay = true;
    await untilNoSendIsInFlight(context, () => ledger.markWriting({ writeId, at: clock.now() }));
    const { offset, old, next } = blockOf(work);
    if (plan.restore && sameBytes(old, next)) {
      work.note ??= ALREADY_THERE;
      return 'skipped'; // a write wears the flash, and may fail
    }
    work.sentWriteId = writeId;
    context.onWriting();
    await device.writeBlock(work.alternate, offset, next);
    return 'ok';
  },
};

const ALREADY_THERE = { message: 'these very bytes were there already: nothing was written', hint: null };

async function prepare(context: StepContext): Promise<void> {
  const { subject, attemptId, ledger, clock, work, plan } = context;
  const block = blockOf(work);
  if (!work.backup) throw new Fault('BUG', 'a write without a backup');
  if (work.open) {
    const found = oldBlockIsThere(work.open, dctOf(work));
    const oldFingerprint = found ? work.open.backup.fingerprint : null;
    await ledger.abandonWrite({ writeId: work.open.writeId, at: clock.now(), oldFingerprint });
  }
  const at = clock.now();
  const { writeId, sendId } = await ledger.prepareWrite({
    deviceId: subject.deviceId,
    attemptId,
    backupId: work.backup.backupId,
    alternate: work.alternate,
    offset: block.offset,
    length: block.next.length,
    oldSha256: sha256Hex(block.old),
    newSha256: sha256Hex(block.next),
    key: await keyOf(context, at),
    ...(plan.restore && { restores: plan.restore.backupId }),
    at,
  });
  work.writeId = writeId;
  work.sendId = sendId;
}

/** The key of the block, as it goes on record; null where the block changes none, or puts none back. */
async function keyOf({ subject, ledger, vault, work, plan }: StepContext, at: number): Promise<NewKey | null> {
  const pair = work.key;
  const publicKey = pair ?? plan.restore?.publicKey;
  if (!publicKey) return null;
  const { fingerprint, pem } = publicKey;
  const { deviceId, productId } = subject;
  const key = {
    fingerprint,
    publicPem: pem,
    algorithm: 'rsa' as const,
    bits: plan.restore?.bits ?? DEVICE_KEY_BITS,
    productId,
  };
  if (!pair || pair.sealedPrivate) return { ...key, generation: null, sealedPrivate: pair?.sealedPrivate ?? null };
  const generation = await ledger.nextGeneration(deviceId);
  const about = { purpose: 'private-key', deviceId, generation, fingerprint, at } as const;
  return { ...key, generation, sealedPrivate: await vault.seal(pair.privateDer, about) };
}

/**
 * An older key may be on its way to the cloud (a `replay` beside this run); a device is not written under it.
 * @throws Fault SEND_IN_FLIGHT
 */
export async function untilNoSendIsInFlight({ clock }: StepContext, mark: () => Promise<boolean>): Promise<void> {
  const until = clock.monotonicMs() + IN_FLIGHT_WAIT_MS;
  while (!(await mark())) {
    if (clock.monotonicMs() >= until) {
      throw new Fault('SEND_IN_FLIGHT', 'an earlier key of this device is still on its way to the cloud');
    }
    await clock.sleep(IN_FLIGHT_LOOK_EVERY_MS);
  }
}
