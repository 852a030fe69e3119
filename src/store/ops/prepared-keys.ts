import { sha256Hex } from '../../core/bytes.ts';
import type { Db } from '../db.ts';

/*
 * Key pairs made ahead. One that was taken is never taken again, whatever crashes: its row says so, and its sealed private
 * half is gone from the record, before the caller has it.
 */

/** A pair as it is kept until a device needs it. */
export interface PreparedKey {
  readonly fingerprint: string;
  /** The private half, sealed. */
  readonly sealed: Uint8Array;
}

export function addPreparedKeys(db: Db, { pairs, at }: { pairs: readonly PreparedKey[]; at: number }): void {
  for (const { fingerprint, sealed } of pairs) {
    db.run(
      'INSERT INTO prepared_keys (fingerprint, sealed, sealed_sha256, made_at) VALUES (?, ?, ?, ?)',
      fingerprint,
      sealed,
      sha256Hex(sealed),
      at,
    );
  }
}

/** The oldest pair that is there; null where there is none. */
export function takePreparedKey(db: Db, { at }: { at: number }): PreparedKey | null {
  const pair = db.get<PreparedKey & { id: number }>(
    'SELECT id, fingerprint, sealed FROM prepared_keys WHERE taken_at IS NULL ORDER BY id LIMIT 1',
  );
  if (!pair) return null;
  const { id, fingerprint, sealed } = pair;
  db.change('UPDATE prepared_keys SET taken_at = ?, sealed = NULL WHERE id = ?', at, id);
  return { fingerprint, sealed };
}

/** How many are there. */
export function preparedKeys(db: Db): number {
  return db.get<{ n: number }>('SELECT count(*) AS n FROM prepared_keys WHERE taken_at IS NULL')?.n ?? 0;
}

/** Pairs that nobody is to use: sealed to others than the vault is now, or in a copy, whose original may use them. */
export function discardPreparedKeys(db: Db, { at }: { at: number }): number {
  return db.run('UPDATE prepared_keys SET taken_at = ?, sealed = NULL WHERE taken_at IS NULL', at).changes;
}

/** In pages, for a check of what is in the vault: the first `limit` pairs after `afterId` that are there. */
export function sealedPreparedKeys(
  db: Db,
  { afterId, limit }: { afterId: number; limit: number },
): (PreparedKey & { id: number })[] {
  return db.all(
    'SELECT id, fingerprint, sealed FROM prepared_keys WHERE taken_at IS NULL AND id > ? ORDER BY id LIMIT ?',
    afterId,
    limit,
  );
}
