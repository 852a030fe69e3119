import type { DeviceId } from '../../core/device-id.ts';
import type { Db } from '../db.ts';

/** An event of the journal as a reader wants it: what it did to the tables is left out. */
export interface DeviceEvent {
  readonly seq: number;
  /** RFC 3339, as it stands in the journal. */
  readonly at: string;
  readonly event: string;
  readonly operator: string;
  readonly run: number | null;
  readonly [fact: string]: unknown;
}

/** So many events of a device are read: one that a rack has tried for years still fits on a screen and in memory. */
const MOST_EVENTS = 500;

/** The newest events of a device, oldest first, and how many older ones there are. */
export function deviceEvents(db: Db, deviceId: DeviceId): { events: DeviceEvent[]; olderEvents: number } {
  const newest = db.all<{ seq: number; body: string }>(
    `SELECT seq, body FROM journal WHERE device_id = ? ORDER BY seq DESC LIMIT ${MOST_EVENTS}`,
    deviceId,
  );
  const events = newest.reverse().map(({ seq, body }) => readEvent(seq, body));
  const all = db.get<{ n: number }>('SELECT count(*) AS n FROM journal WHERE device_id = ?', deviceId);
  return { events, olderEvents: (all?.n ?? 0) - events.length };
}

/** What the reader knows already, and what is there for replaying. */
const LEFT_OUT = new Set(['v', 'station', 'device', 'set']);

function readEvent(seq: number, body: string): DeviceEvent {
  const told = JSON.parse(body) as {
    at: string;
    event: string;
    operator: string;
    run?: number;
    [fact: string]: unknown;
  };
  const { at, event, operator, run = null } = told;
  const facts = Object.fromEntries(Object.entries(told).filter(([name]) => !LEFT_OUT.has(name)));
  return { ...facts, seq, at, event, operator, run };
}

/** When the journal's first event was told, in epoch milliseconds: what is older, the tables alone tell. */
export function journalBegan(db: Db): number {
  const first = db.get<{ at: string }>(`SELECT json_extract(body, '$.at') AS at FROM journal WHERE seq = 1`);
  return first ? Date.parse(first.at) : 0;
}
