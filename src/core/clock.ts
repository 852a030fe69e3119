/** Time as an argument: `now` in epoch milliseconds, `monotonicMs` for durations, `sleep` until done or aborted. */
export interface Clock {
  now(): number;
  monotonicMs(): number;
  /** Resolves after `ms`, or at once (without an error) when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * Calls `act` after `ms`: for deadlines, of which nearly all are called off. A sleep with a signal would do as well, and
   * makes an event, an exception and a promise for each.
   * @returns what calls it off
   */
  after(ms: number, act: () => void): () => void;
}

/** For ending a sleep that nobody asks why it ended: without a reason, an exception with its stack is made as one. */
export const NO_REASON = null;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep(ms, signal) {
    if (signal?.aborted) return Promise.resolve();
    return new Promise(resolve => {
      const over = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', over);
        resolve();
      };
      const timer = setTimeout(over, ms);
      signal?.addEventListener('abort', over);
    });
  },
  after(ms, act) {
    const timer = setTimeout(act, ms);
    return () => clearTimeout(timer);
  },
};

/** RFC 3339 in UTC with milliseconds. */
export function timestamp(epochMs: number): string {
  return new Date(epochMs).toISOString();
}
