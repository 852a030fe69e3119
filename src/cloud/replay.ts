import PQueue from 'p-queue';
import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import type { Delivery, Outbox } from '../core/ledger.ts';
import type { Deliverer } from './deliver.ts';

export interface ReplayOptions {
  readonly outbox: Outbox;
  readonly deliverer: Deliverer;
  readonly clock: Clock;
  /** Devices at once; of one device never more than one send, which the leases hold. */
  readonly concurrency: number;
  readonly deviceId: DeviceId | null;
  readonly ignoreDue: boolean;
  readonly stop: AbortSignal;
  readonly onSent: (deviceId: DeviceId, delivery: Delivery) => void;
}

export interface ReplayTotals {
  readonly accepted: number;
  readonly refused: number;
  readonly superseded: number;
}

/** Tries each send that is due, once. After a 401 the rest is left as it is. */
export async function replayOnce(options: ReplayOptions): Promise<ReplayTotals> {
  const { outbox, deliverer, clock, deviceId, ignoreDue, stop, onSent } = options;
  const totals = { accepted: 0, refused: 0, superseded: 0 };
  const due = await outbox.dueSends({ at: clock.now(), ignoreDue, deviceId });
  const queue = new PQueue({ concurrency: options.concurrency });
  await queue.addAll(
    due.map(send => async () => {
      if (stop.aborted || deliverer.unauthorized !== null) return;
      const delivery = await deliverer.deliverIf(send.sendId, ignoreDue);
      if (delivery.kind === 'accepted') totals.accepted += 1;
      else if (delivery.kind === 'refused') totals.refused += 1;
      else if ((await outbox.stateOf(send.sendId)) === 'superseded') totals.superseded += 1;
      onSent(send.deviceId, delivery);
    }),
  );
  return totals;
}
