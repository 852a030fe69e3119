import type { Clock } from '#src/core/clock.ts';

/** `after` of a clock that has its own idea of how long a sleep is. */
export function afterBySleep(sleep: Clock['sleep']): Clock['after'] {
  return (ms, act) => {
    const over = new AbortController();
    void sleep(ms, over.signal).then(() => {
      if (!over.signal.aborted) act();
    });
    return () => over.abort();
  };
}
