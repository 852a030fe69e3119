import { z } from 'zod';
import { sha256Hex } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
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
    const { offset, next } = blockOf(work);
    work.sentWriteId = writeId;
    await device.writeBlock(work.alternate, offset, next);
    return 'ok';
  },
};

async function prepare(context: StepContext): Promise<void> {
  const { subject, attemptId, ledger, vault, clock, work } = context;
  const block = blockOf(work);
  if (!work.backup) throw new Fault('BUG', 'a write without a backup');
  if (work.open) {
    const found = oldBlockIsThere(work.open, dctOf(work));
    const oldFingerprint = found ? work.open.backup.fingerprint : null;
    await ledger.abandonWrite({ writeId: work.open.writeId, at: clock.now(), oldFingerprint });
  }
  const at = clock.now();
  const pair = work.key;
  const generation = pair ? await ledger.nextGeneration(subject.deviceId) : 0;
  const sealedPrivate =
    pair &&
    (await vault.seal(pair.privateDer, {
      purpose: 'private-key',
      deviceId: subject.deviceId,
      generation,
      fingerprint: pair.fingerprint,
      at,
    }));
  const { writeId, sendId } = await ledger.prepareWrite({
    deviceId: subject.deviceId,
    attemptId,
    backupId: work.backup.backupId,
    alternate: work.alternate,
    offset: block.offset,
    length: block.next.length,
    oldSha256: sha256Hex(block.old),
    newSha256: sha256Hex(block.next),
    key:
      pair && sealedPrivate
        ? {
            generation,
            fingerprint: pair.fingerprint,
            publicPem: pair.pem,
            algorithm: 'rsa',
            bits: DEVICE_KEY_BITS,
            sealedPrivate,
            productId: subject.productId,
          }
        : null,
    at,
  });
  work.writeId = writeId;
  work.sendId = sendId;
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
