import type { DeviceId } from '../core/device-id.ts';
import { IN_OTHER_HANDS } from './deliver.ts';
import { NOT_ITS_TURN } from './deliver-calls.ts';
import type { Tried } from './replay.ts';
import type { TriedCall } from './replay-calls.ts';

/** A try of a send, or of a call, whose number stands for that of a send. */
type TriedOnce = Pick<Tried, 'sendId' | 'deviceId' | 'state'> & {
  readonly delivery: Tried['delivery'] | TriedCall['delivery'];
};

/** Entries of sends that others have settled, which may wait to be forgotten together. */
const SLACK = 100;

/** What a service has said of the sends that wait, so that it says each thing once and not at every try. */
export class Told {
  /** By device, of which at most one send is pending. */
  readonly #waiting = new Map<DeviceId, { readonly sendId: number; readonly reason: string }>();

  get size(): number {
    return this.#waiting.size;
  }

  /** Whether it has not been said yet; from now on it has. */
  isNews({ sendId, deviceId, delivery, state }: TriedOnce): boolean {
    if (delivery.kind !== 'pending' || state !== 'pending') {
      this.#waiting.delete(deviceId);
      return true;
    }
    const { reason } = delivery;
    if (reason === IN_OTHER_HANDS || reason === NOT_ITS_TURN) return false; // whoever has it says what comes of it
    const told = this.#waiting.get(deviceId);
    if (told?.sendId === sendId && told.reason === reason) return false;
    this.#waiting.set(deviceId, { sendId, reason });
    return true;
  }

  /** Forgets what another process has settled, once that is more than half. @param pending how many sends wait now */
  async forgetSettled(outbox: { stateOf: (id: number) => Promise<string | null> }, pending: number): Promise<void> {
    if (this.#waiting.size <= 2 * pending + SLACK) return;
    for (const [deviceId, { sendId }] of this.#waiting) {
      if ((await outbox.stateOf(sendId)) !== 'pending') this.#waiting.delete(deviceId);
    }
  }
}
