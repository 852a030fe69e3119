import type { Clock } from '#src/core/clock.ts';
import { afterBySleep } from './after-by-sleep.ts';

/** A clock in which every sleep is over at once: time passes, and nobody waits. */
export class QuickClock implements Clock {
  #now = 1_700_000_000_000;
  /** How long each sleep would have been, in ms. */
  readonly sleeps: number[] = [];
  /** Called in each sleep, before it is over. */
  onSleep: (ms: number) => void = () => undefined;

  now(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  sleep(ms: number): Promise<void> {
    this.sleeps.push(ms);
    this.#now += ms;
    this.onSleep(ms);
    return Promise.resolve();
  }

  readonly after = afterBySleep(ms => this.sleep(ms));
}
