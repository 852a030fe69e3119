import type Database from 'better-sqlite3';
import { hash as digest } from 'node:crypto';
import { HASH_TAG, NO_HASH } from './event.ts';

/** The first event at which the chain does not hold. */
export interface ChainProblem {
  readonly seq: number;
  readonly what: string;
}

export interface ChainResult {
  readonly events: number;
  /** Hash of the last event that was read, hex. */
  readonly head: string;
  readonly problem: ChainProblem | null;
}

const TAG_BYTES = Buffer.byteLength(HASH_TAG);

/**
 * Reads the events after `after` up to `until`, and proves of each that its number follows, that its bytes are those that
 * were hashed, and that it follows from the one before it. Memory does not grow with the journal.
 * @param expected what the first of them has to follow from, hex; null where that is looked at by another
 */
export function verifyChain(
  raw: Database.Database,
  { after, until, expected }: { after: number; until: number; expected: string | null },
): ChainResult {
  const rows = raw
    .prepare<[number, number], [seq: number, hashed: Buffer, hash: Buffer, body: string]>(
      `SELECT seq, CAST('${HASH_TAG.trim()}' || char(10) || prev || body AS BLOB), hash, substr(body, 1, 32)
         FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq`,
    )
    .raw(true)
    .iterate(after, until);
  let last = after;
  let head = expected;
  for (const [seq, hashed, hash, start] of rows) {
    const found = hash.toString('hex');
    const what =
      seq !== last + 1
        ? `event ${last + 1} is missing`
        : digest('sha256', hashed, 'hex') !== found
          ? 'its bytes are not those that were hashed'
          : head !== null && hashed.toString('hex', TAG_BYTES, TAG_BYTES + 32) !== head
            ? 'it does not follow from the event before it'
            : start.startsWith(`{"v":1,"seq":${seq},`)
              ? null
              : 'it says another number of itself';
    if (what !== null) return { events: last - after, head: head ?? '', problem: { seq: last + 1, what } };
    last = seq;
    head = found;
  }
  if (last < until) {
    return { events: last - after, head: head ?? '', problem: { seq: last + 1, what: `event ${last + 1} is missing` } };
  }
  return { events: last - after, head: head ?? NO_HASH.toString('hex'), problem: null };
}
