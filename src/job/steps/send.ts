import { z } from 'zod';
import { Fault } from '../../core/errors.ts';
import { rollBack } from '../roll-back.ts';
import type { Step } from '../step.ts';

/**
 * Step 7: accepted → go on; refused for good → the old block is put back; no clear answer → the send stays in the outbox
 * and the device goes on.
 */
export const send: Step<Record<string, never>> = {
  name: 'send',
  options: z.strictObject({}),
  deadlineMs: 180_000,
  async run(context) {
    const { ledger, sender, clock, work } = context;
    const { resume, open, writeId, sendId } = work;
    if (writeId === null || sendId === null) throw new Fault('BUG', 'send without a write');
    work.fingerprint = work.key?.pair.fingerprint ?? open?.key?.fingerprint ?? null;
    if (resume === 'leave') {
      work.cloud = 'accepted';
      return 'skipped';
    }
    if (resume === 'roll-back' || resume === 'rolled-back') {
      await rollBack(context, { uncertain: open?.refusalUncertain ?? true, alreadyThere: resume === 'rolled-back' });
      throw refused(
        open?.refusalUncertain ?? true,
        work.backup?.fingerprint ?? null,
        'the cloud refused the key earlier',
      );
    }
    const delivery = await sender.deliver(sendId);
    switch (delivery.kind) {
      case 'accepted':
        work.cloud = 'accepted';
        return 'ok';
      case 'pending':
        await ledger.markLeftToOutbox({ writeId, at: clock.now() });
        work.cloud = 'pending';
        return 'ok';
      case 'refused': {
        work.cloud = 'refused';
        await rollBack(context, { uncertain: delivery.uncertain, alreadyThere: false });
        throw refused(
          delivery.uncertain,
          work.backup?.fingerprint ?? null,
          `the cloud refused the key with ${delivery.status} (${delivery.reason})`,
        );
      }
    }
  },
};

/** Where the old public key can't be derived, the cloud can't be told it again, and may hold the refused one. */
function refused(uncertain: boolean, oldFingerprint: string | null, message: string): Fault {
  return new Fault(
    uncertain && oldFingerprint === null ? 'CLOUD_KEY_UNCERTAIN' : 'CLOUD_REFUSED',
    `${message}; the old key is back on the device`,
  );
}
