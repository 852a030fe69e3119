import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { noteKey } from './key-states.ts';
import { markOf, onDevice } from './on-device.ts';

/* Keys by their fingerprint, over the whole fleet: those that this station made or restored, and those found in backups. */

export interface FoundKey {
  readonly fingerprint: string;
  readonly deviceId: DeviceId;
  /** Of a key of this station; else the backup that it was found in. */
  readonly generation: number | null;
  readonly backup: number | null;
  /** What it was marked as, else its state; `found`: it lay on the device when the backup was taken. */
  readonly state: string;
  readonly since: number;
  /** Why it is in that state. */
  readonly reason: string | null;
  /** Whether it is on that device now, by the newest that the record knows. */
  readonly onDevice: boolean;
}

/** Every fingerprint that begins with a prefix lies in this range of the index: `g` comes after the last hex digit. */
const inRange = (column: string): string => `${column} >= :prefix AND ${column} < :prefix || 'g'`;

type Row = Omit<FoundKey, 'onDevice'>;

/** The first `limit` of those whose fingerprint begins with `prefix` (lower-case hex), and how many more there are. */
export function findKeys(
  db: Db,
  { prefix, limit }: { prefix: string; limit: number },
): { found: FoundKey[]; more: number } {
  const ours = db.all<Row>(
    `SELECT keys.fingerprint, keys.device_id AS deviceId, keys.generation, NULL AS backup,
            coalesce(mark.state, keys.state) AS state, coalesce(mark.marked_at, change.at, keys.created_at) AS since,
            coalesce(mark.why, change.reason) AS reason
       FROM keys
       LEFT JOIN key_marks AS mark ON mark.id = ${newestMark('keys.fingerprint')}
       LEFT JOIN key_changes AS change ON change.id =
         (SELECT max(id) FROM key_changes WHERE key_changes.key_id = keys.id AND key_changes.state = keys.state)
      WHERE ${inRange('keys.fingerprint')} ORDER BY keys.fingerprint, keys.id LIMIT :limit`,
    { prefix, limit },
  );
  const inBackups = db.all<Row>(
    `SELECT backups.fingerprint, backups.device_id AS deviceId, NULL AS generation, backups.id AS backup,
            coalesce(mark.state, 'found') AS state, coalesce(mark.marked_at, backups.taken_at) AS since, mark.why AS reason
       FROM backups
       LEFT JOIN key_marks AS mark ON mark.id = ${newestMark('backups.fingerprint')}
      WHERE ${inRange('backups.fingerprint')} ORDER BY backups.fingerprint, backups.id LIMIT :limit`,
    { prefix, limit: limit - ours.length },
  );
  const rows = [...ours, ...inBackups];
  const now = new Map<DeviceId, string | null>();
  const found = rows.map(row => {
    const { deviceId, fingerprint } = row;
    if (!now.has(deviceId)) now.set(deviceId, onDevice(db, deviceId)?.fingerprint ?? null);
    return { ...row, onDevice: now.get(deviceId) === fingerprint };
  });
  return { found, more: countOf(db, prefix) - found.length };
}

/** The mark that counts: the newest of those that outweigh the others. */
function newestMark(fingerprint: string): string {
  return `(SELECT id FROM key_marks WHERE key_marks.fingerprint = ${fingerprint} ORDER BY state DESC, id DESC LIMIT 1)`;
}

function countOf(db: Db, prefix: string): number {
  const found = db.get<{ n: number }>(
    `SELECT (SELECT count(*) FROM keys WHERE ${inRange('fingerprint')}) + (SELECT count(*) FROM backups WHERE ${inRange('fingerprint')}) AS n`,
    { prefix },
  );
  return found?.n ?? 0;
}

export type Mark = 'compromised' | 'destroyed';

export interface Marked {
  readonly fingerprint: string;
  readonly state: Mark;
  /** What it is shown as: a destroyed key stays one, whatever else is said of it. */
  readonly shownAs: string;
  readonly why: string;
  readonly at: number;
  /** It had been marked so before, and nothing was put down. */
  readonly already: boolean;
  /** Devices that have it on record, and those of them that carry it now; of the first few hundred. */
  readonly devices: readonly DeviceId[];
  readonly carriers: readonly DeviceId[];
  readonly more: number;
}

const MOST_FINGERPRINTS = 10;
const MOST_DEVICES = 300;

/** Puts on record what a hand says of a key. @throws Fault KEY_NOT_FOUND, USAGE where the prefix fits several */
export function markKey(db: Db, mark: { prefix: string; state: Mark; why: string; at: number }): Marked {
  const { prefix, state, why, at } = mark;
  const fingerprint = onlyFingerprint(db, prefix);
  const before = db.get<{ why: string; at: number }>(
    'SELECT why, marked_at AS at FROM key_marks WHERE fingerprint = ? AND state = ? ORDER BY id LIMIT 1',
    fingerprint,
    state,
  );
  if (!before) {
    db.run(
      'INSERT INTO key_marks (fingerprint, state, why, marked_at) VALUES (?, ?, ?, ?)',
      fingerprint,
      state,
      why,
      at,
    );
    const ours = db.all<{ id: number }>('SELECT id FROM keys WHERE fingerprint = ? ORDER BY id', fingerprint);
    for (const { id } of ours) noteKey(db, { keyId: id, state, reason: why, at });
  }
  const { found, more } = findKeys(db, { prefix: fingerprint, limit: MOST_DEVICES });
  const devices = (keys: readonly FoundKey[]): DeviceId[] => [...new Set(keys.map(({ deviceId }) => deviceId))];
  const shown = db.get<{ state: string }>(`SELECT ${markOf('?')} AS state`, fingerprint);
  return {
    fingerprint,
    state,
    shownAs: shown?.state ?? state,
    why: before?.why ?? why,
    at: before?.at ?? at,
    already: before !== undefined,
    devices: devices(found),
    carriers: devices(found.filter(key => key.onDevice)),
    more,
  };
}

function onlyFingerprint(db: Db, prefix: string): string {
  const found = db.all<{ fingerprint: string }>(
    `SELECT fingerprint FROM keys WHERE ${inRange('fingerprint')} UNION SELECT fingerprint FROM backups WHERE ${inRange('fingerprint')}
      ORDER BY fingerprint LIMIT ${MOST_FINGERPRINTS + 1}`,
    { prefix },
  );
  const [first] = found;
  if (!first) throw keyNotFound(prefix);
  if (found.length === 1) return first.fingerprint;
  const some = found.slice(0, MOST_FINGERPRINTS).map(({ fingerprint }) => fingerprint);
  throw new Fault(
    'USAGE',
    `${prefix} fits several keys: ${some.join(', ')}${found.length > MOST_FINGERPRINTS ? ' and more' : ''}`,
    { hint: 'one key is marked at a time: name more of its digits' },
  );
}

export function keyNotFound(prefix: string): Fault {
  return new Fault('KEY_NOT_FOUND', `no key on record has a fingerprint that begins with ${prefix}`);
}
