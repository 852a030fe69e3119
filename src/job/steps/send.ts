import { Fault } from '../../core/errors.ts';
import { takeBack } from '../roll-back.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step } from '../step.ts';
import { fingerprintWritten } from '../work.ts';
import { untilNoSendIsInFlight } from './write.ts';

/**
 * Step 7: accepted → go on; refused for good → the old block is put back; no clear answer → the send stays in the outbox
 * and the device goes on.
 */
export const send: Step<NoOptions> = {
  name: 'send',
  options: NO_OPTIONS,
  deadlineMs: 600_000,
  async run(context) {
    const { ledger, sender, clock, work, plan } = context;
    const { resume, open, writeId, sendId } = work;
    if (writeId === null || sendId === null) throw new Fault('BUG', 'send without a write');
    work.fingerprint = fingerprintWritten(work, plan);
    if (resume === 'leave') {
      work.cloud = 'accepted';
      return 'skipped';
    }
    if (resume === 'roll-back' || resume === 'rolled-back') {
      const how = { doubt: open?.doubt ?? 'late', alreadyThere: resume === 'rolled-back' };
      if (open?.proofRefused === undefined) return takeBack(context, how, 'the cloud refused the key earlier');
      const said = `the cloud refused the device earlier (${open.proofRefused})`;
      return takeBack(context, how, said, { code: 'HANDSHAKE_REFUSED' });
    }
    if (work.cloud === 'pending') return 'skipped'; // tried by this very session: the outbox says when it is due again
    const delivery = await sender.deliver(sendId);
    if (delivery.kind === 'refused') {
      const said = `the cloud refused the key with ${delivery.status} (${delivery.reason})`;
      return takeBack(context, { doubt: delivery.doubt, alreadyThere: false }, said);
    }
    let phase: string = delivery.kind;
    if (delivery.kind === 'pending') {
      await untilNoSendIsInFlight(context, async () => {
        phase = await ledger.markLeftToOutbox({ writeId, at: clock.now() });
        return phase !== 'in-flight';
      });
    }
    if (phase === 'refused') {
      const recorded = await ledger.openWrite(context.subject.deviceId);
      const how = { doubt: recorded?.doubt ?? 'late', alreadyThere: false };
      return takeBack(context, how, 'the cloud refused the key to a replay beside this run');
    }
    work.cloud = phase === 'accepted' ? 'accepted' : 'pending';
    if (delivery.kind === 'accepted' && delivery.again) work.note = TOLD_AGAIN;
    return 'ok';
  },
};

const TOLD_AGAIN = {
  message: 'an earlier key of this device got no answer and may yet land: the cloud is to be told this one once more',
  hint: 'run `photon-fleet replay` in two minutes, or leave `photon-fleet replay --watch` running',
};
