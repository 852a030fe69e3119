import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { toFault } from '../core/errors.ts';
import type { Delivery, DueSend, Outbox } from '../core/ledger.ts';
import type { Deliverer } from './deliver.ts';

export interface ReplayOptions {
  readonly outbox: Outbox;
  readonly deliverer: Deliverer;
  readonly clock: Clock;
  /**
   * Sends at once, of one device never more than one, which the leases hold. Twice as many as requests may be on their way:
   * the record takes its time as well, and nothing has to wait for it.
   */
  readonly concurrency: number;
  readonly deviceId: DeviceId | null;
  readonly ignoreDue: boolean;
  readonly stop: AbortSignal;
  readonly onTried: (tried: Tried) => void;
}

/** What came of one try. */
export interface Tried {
  readonly sendId: number;
  readonly deviceId: DeviceId;
  readonly delivery: Delivery;
  /** Where the delivery is pending: the state of the send now, since another process may have settled it. */
  readonly state: string | null;
}

/**
 * One round: tries each send that is due once, oldest first. They come from the record in pages, so that memory does not
 * grow with the outbox; one that becomes due meanwhile is taken into this round or the next. After a 401, an abort or a
 * failure of the record no further one is begun, and those under way go on to their end.
 * @throws Fault DB_FAILED, RECORD_INVALID, BUG: the first failure
 */
export async function replayOnce(options: ReplayOptions): Promise<void> {
  const { outbox, deliverer, ignoreDue, stop, onTried } = options;
  const due = dueSends(options); // one for all workers: each send goes to one of them
  const work = async (): Promise<void> => {
    for await (const { sendId, deviceId } of due) {
      if (stop.aborted || deliverer.unauthorized !== null) break;
      const delivery = await deliverer.deliverIf(sendId, ignoreDue);
      if (delivery === null) break;
      const state = delivery.kind === 'pending' ? await outbox.stateOf(sendId) : delivery.kind;
      onTried({ sendId, deviceId, delivery, state });
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: options.concurrency }, work));
  const failed = ends.find(end => end.status === 'rejected');
  if (failed) throw toFault(failed.reason);
}

async function* dueSends({ outbox, clock, ignoreDue, deviceId }: ReplayOptions): AsyncGenerator<DueSend, void> {
  for (let afterSendId = 0; ;) {
    const page = await outbox.dueSends({ at: clock.now(), ignoreDue, deviceId, afterSendId });
    const last = page.at(-1);
    if (!last) return;
    yield* page;
    afterSendId = last.sendId; // not by time: a try moves that, and the send would come again
  }
}
