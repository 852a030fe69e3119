import { hash as digest } from 'node:crypto';

/*
 * An event of the journal. Its bytes are one line of JSON:
 *
 *   {"v":1,"seq":17,"at":"2026-05-03T09:00:00.000Z","station":"…","operator":"…","event":"key-made","device":"…",
 *    …facts…,"set":[["keys",{…the new row…}],["writes",{"id":5},{…what changed in it…}]]}
 *
 * and its hash covers them together with the hash before it:
 *
 *   SHA-256("photon-fleet journal event v1\n" ‖ prev ‖ body)        prev: 32 bytes, zeros for the first event
 *
 * `set` is what the event did to the tables: replaying it gives them anew. Facts and rows hold fingerprints and hashes,
 * never a secret.
 */

export const HASH_TAG = 'photon-fleet journal event v1\n';
export const NO_HASH: Buffer = Buffer.alloc(32);

export type Fact = string | number | boolean | null | readonly string[];

/** What is told of an event beside its number, its time, its station and its operator. */
export interface Told {
  readonly event: string;
  readonly device?: string | undefined;
  readonly run?: number | undefined;
  readonly facts?: Readonly<Record<string, Fact | undefined>>;
}

/** A row that an event added, or, with its key first, what it changed in one. A column that is not named is null. */
export type SetRow =
  | readonly [table: string, row: Readonly<Record<string, unknown>>]
  | readonly [table: string, key: Readonly<Record<string, unknown>>, changed: Readonly<Record<string, unknown>>];

export interface JournalEvent {
  readonly v: 1;
  readonly seq: number;
  readonly at: string;
  readonly station: string;
  readonly operator: string;
  readonly event: string;
  readonly device?: string;
  readonly run?: number;
  readonly set?: readonly SetRow[];
  readonly [fact: string]: unknown;
}

const TAG = Buffer.from(HASH_TAG);

/** The hash of an event: 32 bytes. */
export function hashOf(prev: Uint8Array, body: string): Buffer {
  const start = TAG.length + prev.length;
  const hashed = Buffer.allocUnsafe(start + Buffer.byteLength(body));
  hashed.set(TAG);
  hashed.set(prev, TAG.length);
  hashed.write(body, start);
  return digest('sha256', hashed, 'buffer');
}
