import { timestamp } from '../core/clock.ts';
import type { RunEvent, RunObserver } from '../core/events.ts';

/** A run's events as NDJSON: one object a line, `{"type": …, "ts": …}`; what is talk is left out. */
export function ndjsonReport(write: (line: string) => void): RunObserver {
  return event => {
    if (event.type === 'step' || event.type === 'stranger' || event.type === 'note') return;
    write(JSON.stringify(jsonOf(event)));
  };
}

/** An event with its time in RFC 3339. */
export function jsonOf(event: RunEvent): Record<string, unknown> {
  const { type, ts, ...rest } = event;
  return { type, ts: timestamp(ts), ...rest };
}

/** Epoch milliseconds of a record as RFC 3339, null staying null. */
export function when(epochMs: number | null): string | null {
  return epochMs === null ? null : timestamp(epochMs);
}
