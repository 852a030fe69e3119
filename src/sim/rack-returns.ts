import { systemClock, type Clock } from '../core/clock.ts';
import type { RackDevice } from './rack-device.ts';

/** Devices off the bus that come back by themselves, one return each; stopped when a hand is quicker. */
export class Returns {
  readonly #clock: Clock;
  readonly #waiting = new Map<RackDevice, AbortController>();

  /** @param clock the system's if undefined */
  constructor(clock: Clock | undefined) {
    this.#clock = clock ?? systemClock;
  }

  /** @param act what brings the device back, after `ms` */
  in(ms: number, device: RackDevice, act: () => void): void {
    this.stop(device);
    const stop = new AbortController();
    this.#waiting.set(device, stop);
    void this.#clock.sleep(ms, stop.signal).then(() => {
      if (stop.signal.aborted) return;
      this.#waiting.delete(device);
      act();
    });
  }

  stop(device: RackDevice): void {
    this.#waiting.get(device)?.abort();
    this.#waiting.delete(device);
  }
}
