import type { CallDelivery, CallOutbox, DueCall } from '../core/cloud-calls.ts';
import { CALL_KINDS } from '../core/cloud-calls.ts';
import type { CallKind } from '../core/cloud-calls.ts';
import { toFault } from '../core/errors.ts';
import type { CallDeliverer } from './deliver-calls.ts';
import type { ReplayOptions } from './replay.ts';

export interface ReplayCallsOptions extends Omit<ReplayOptions, 'outbox' | 'deliverer' | 'onTried'> {
  readonly outbox: CallOutbox;
  readonly caller: CallDeliverer;
  /** Whether the token is bad by now. */
  readonly unauthorized: () => string | null;
  readonly onTried: (tried: TriedCall) => void;
}

/** What came of one try. */
export interface TriedCall extends DueCall {
  readonly delivery: CallDelivery;
  /** Where the delivery is pending: the state of the call now, since another process may have settled it. */
  readonly state: string | null;
}

/**
 * One round, after that of the sends: tries each call that is due once, kind by kind in the order that a device needs, so
 * that a device whose key has just been accepted comes as far as its name. Ends as a round of sends does.
 * @throws Fault DB_FAILED, RECORD_INVALID, BUG: the first failure
 */
export async function replayCallsOnce(options: ReplayCallsOptions): Promise<void> {
  for (const kind of CALL_KINDS) await replayKind(kind, options);
}

async function replayKind(kind: CallKind, options: ReplayCallsOptions): Promise<void> {
  const { outbox, caller, ignoreDue, stop, unauthorized, onTried } = options;
  const due = dueCalls(kind, options); // one for all workers: each call goes to one of them
  const work = async (): Promise<void> => {
    for await (const call of due) {
      if (stop.aborted || unauthorized() !== null) break;
      const delivery = await caller.deliverIf(call.callId, ignoreDue);
      if (delivery === null) break;
      const state = delivery.kind === 'pending' ? await outbox.callStateOf(call.callId) : delivery.kind;
      onTried({ ...call, delivery, state });
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: options.concurrency }, work));
  const failed = ends.find(end => end.status === 'rejected');
  if (failed) throw toFault(failed.reason);
}

async function* dueCalls(
  kind: CallKind,
  { outbox, clock, ignoreDue, deviceId }: ReplayCallsOptions,
): AsyncGenerator<DueCall, void> {
  for (let afterCallId = 0; ;) {
    const page = await outbox.dueCalls({ kind, at: clock.now(), ignoreDue, deviceId, afterCallId });
    const last = page.at(-1);
    if (!last) return;
    yield* page;
    afterCallId = last.callId;
  }
}
