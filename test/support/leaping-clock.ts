import type { Clock } from '#src/core/clock.ts';
import type { Behaviour } from '#src/sim/photon-behaviour.ts';
import type { RackFault } from '#src/sim/rack-faults.ts';
import { afterBySleep } from './after-by-sleep.ts';

/** So many turns of the event loop go by before it is believed that nobody has anything left to do. */
const QUIET_TURNS = 3;

interface Sleeper {
  readonly untilMs: number;
  readonly wake: () => void;
}

/**
 * A clock that leaps: when everybody sleeps, it is at once the time for which the first of them waits. Deadlines of
 * minutes take no time, no load of the machine can make one of them pass early, and what a test sees is always the same.
 * Work that takes real time (the disk, the cloud, a key) is to be told by `during`: meanwhile the clock stands still.
 */
export class LeapingClock implements Clock {
  #now = Date.now();
  readonly #sleepers = new Set<Sleeper>();
  #working = 0;
  #stirs = 0;
  #watching = false;

  now(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  /** How many sleep now: whoever still waits for something after the end of a run has been forgotten. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise(resolve => {
      const onAbort = (): void => sleeper.wake();
      const sleeper: Sleeper = {
        untilMs: this.#now + ms,
        wake: () => {
          this.#stirs += 1;
          this.#sleepers.delete(sleeper);
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', onAbort);
      this.#stirs += 1;
      void this.#watch();
    });
  }

  readonly after = afterBySleep((ms, signal) => this.sleep(ms, signal));

  /** No time passes until `work` has ended. */
  async during<T>(work: Promise<T>): Promise<T> {
    this.#working += 1;
    try {
      return await work;
    } finally {
      this.#working -= 1;
      this.#stirs += 1;
      void this.#watch();
    }
  }

  async #watch(): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    while (this.#onlySleepers()) {
      const before = this.#stirs;
      for (let turn = 0; turn < QUIET_TURNS; turn += 1) await new Promise<void>(resolve => setImmediate(resolve));
      if (this.#stirs === before && this.#onlySleepers()) this.#leap();
    }
    this.#watching = false;
  }

  #onlySleepers(): boolean {
    return this.#working === 0 && this.#sleepers.size > 0;
  }

  #leap(): void {
    this.#now = Math.max(this.#now, Math.min(...[...this.#sleepers].map(({ untilMs }) => untilMs)));
    for (const { untilMs, wake } of [...this.#sleepers]) if (untilMs <= this.#now) wake();
  }
}

/**
 * For a rack whose flash lies in files: what is written there takes no time but the flash's own. Comes before all other
 * faults, so that it lies under whatever they do.
 */
export function filesInRealTime(clock: LeapingClock): RackFault {
  const behaviour = { write: (block, pass) => clock.during(pass(block)) } satisfies Behaviour;
  return { text: '*', target: { by: 'all' }, effect: { behaviour: () => behaviour } };
}

/** The same object; under a clock that leaps, time stands still while one of its methods is under way. */
export function inRealTime<T extends object>(target: T, clock: Clock): T {
  if (!(clock instanceof LeapingClock)) return target;
  return new Proxy(target, {
    get(of, name) {
      const member: unknown = Reflect.get(of, name, of);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]): unknown => {
        const result: unknown = Reflect.apply(member, of, args);
        return result instanceof Promise ? clock.during(result) : result;
      };
    },
  });
}
