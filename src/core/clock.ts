import { setTimeout as sleepFor } from 'node:timers/promises';

/** Time as an argument: `now` in epoch milliseconds, `monotonicMs` for durations, `sleep` until done or aborted. */
export interface Clock {
  now(): number;
  monotonicMs(): number;
  /** Resolves after `ms`, or at once (without an error) when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  async sleep(ms, signal) {
    if (signal?.aborted) return;
    try {
      await sleepFor(ms, undefined, signal ? { signal } : {});
    } catch (cause) {
      if (!signal?.aborted) throw cause; // an aborted sleep is over, nothing more
    }
  },
};

/** RFC 3339 in UTC with milliseconds. */
export function timestamp(epochMs: number): string {
  return new Date(epochMs).toISOString();
}
