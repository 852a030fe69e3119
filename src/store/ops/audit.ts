import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { verifyChain } from '../journal/chain.ts';
import type { ChainResult } from '../journal/chain.ts';
import { NO_HASH } from '../journal/event.ts';
import type { Fact } from '../journal/event.ts';
import { replayJournal } from '../journal/replay.ts';
import type { Replayed } from '../journal/replay.ts';

export interface JournalHead {
  readonly stationId: string;
  /** The raw Ed25519 key that signs, base64; null as long as nothing was signed. */
  readonly signingKey: string | null;
  readonly seq: number;
  /** Hex. */
  readonly hash: string;
}

export function journalHead(db: Db): JournalHead {
  const station = db.get<{ stationId: string; signingKey: string | null }>(
    'SELECT station_id AS stationId, signing_key AS signingKey FROM station',
  );
  if (!station) throw new Fault('RECORD_INVALID', 'the database has no station');
  const { seq, hash } = db.journal.head();
  return { ...station, seq, hash: hash.toString('hex') };
}

/** The hash of an event, hex; zeros before the first, null where there is none. */
export function journalHashAt(db: Db, seq: number): string | null {
  if (seq === 0) return NO_HASH.toString('hex');
  return db.get<{ hash: Buffer }>('SELECT hash FROM journal WHERE seq = ?', seq)?.hash.toString('hex') ?? null;
}

/** The number of the event that has this hash (hex). */
export function journalSeqOf(db: Db, hash: string): number | null {
  return db.get<{ seq: number }>('SELECT seq FROM journal WHERE hash = ?', Buffer.from(hash, 'hex'))?.seq ?? null;
}

/** Events as they were hashed. */
export interface StoredEvent {
  readonly seq: number;
  /** Hex. */
  readonly prev: string;
  readonly hash: string;
  readonly body: string;
}

/** In pages: the first `limit` events after `after`, of one device or of all. */
export function journalPage(
  db: Db,
  { after, until, limit, deviceId }: { after: number; until: number; limit: number; deviceId: string | null },
): StoredEvent[] {
  const which = deviceId === null ? '' : 'device_id = :deviceId AND';
  return db
    .all<{ seq: number; prev: Buffer; hash: Buffer; body: string }>(
      `SELECT seq, prev, hash, body FROM journal WHERE ${which} seq > :after AND seq <= :until ORDER BY seq LIMIT :limit`,
      { after, until, limit, ...(deviceId === null ? {} : { deviceId }) },
    )
    .map(({ prev, hash, ...event }) => ({ ...event, prev: prev.toString('hex'), hash: hash.toString('hex') }));
}

/** A part of the chain, proven on this connection. */
export function verifyPart(db: Db, range: Parameters<typeof verifyChain>[1]): ChainResult {
  return verifyChain(db.raw, range);
}

/** The tables as the journal makes them, compared with those that are there. */
export function compareWithJournal(db: Db): Replayed {
  return replayJournal(db.raw);
}

/** Binds the database to the key that signs for it; another one is refused. @throws Fault SIGNING_KEY */
export function bindSigningKey(db: Db, signingKey: string): void {
  const bound = journalHead(db).signingKey;
  if (bound === null) db.change('UPDATE station SET signing_key = ?', signingKey);
  else if (bound !== signingKey) {
    throw new Fault('SIGNING_KEY', 'the signing key is not the one that signs for this database');
  }
}

export interface StoredCheckpoint {
  readonly seq: number;
  readonly note: string;
}

export function addCheckpoint(db: Db, { seq, note, at }: StoredCheckpoint & { at: number }): void {
  db.run('INSERT INTO checkpoints (seq, note, made_at) VALUES (?, ?, ?)', seq, note, at);
}

/** In pages, oldest first. */
export function checkpointsAfter(
  db: Db,
  { afterId, limit }: { afterId: number; limit: number },
): (StoredCheckpoint & { readonly id: number })[] {
  return db.all('SELECT id, seq, note FROM checkpoints WHERE id > ? ORDER BY id LIMIT ?', afterId, limit);
}

/** What was taken out of the record, and by the journal's own telling by whom. */
export function noteExport(db: Db, facts: Readonly<Record<string, Fact>>): void {
  db.journal.say({ event: 'exported', facts });
}

/** The settings that work is done with; a change of them is an event. */
export function noteConfiguration(db: Db, settings: Readonly<Record<string, unknown>>): void {
  db.run('UPDATE station SET configuration = :now WHERE configuration IS NOT :now', { now: JSON.stringify(settings) });
}
