import { CALL_KINDS } from '../../core/cloud-calls.ts';
import type { CallKind, CallOutbox, CallState, DueCall, LeasedCall } from '../../core/cloud-calls.ts';
import type { Db } from '../db.ts';
import { freeDeadLeases } from './lease-owner.ts';
import { DUE_AT_ONCE, dueAt, FREE_OWN } from './leases.ts';

/*
 * Calls to the cloud beside the sends of keys (migrations/0006): on record before they are made, one at a time for a device,
 * in the order of CALL_KINDS, and none before the key of its device is accepted.
 *
 *   queueCall          → pending       an older pending one of its kind that says something else is superseded
 *   leaseCall            pending       this process alone may make it now
 *   recordCallDone     → done
 *   recordCallRefused  → refused       parked, until a hand retries it
 *   recordCallUnknown    pending       due again at `nextAt`
 *
 * An answer that comes after the call was superseded or dropped changes no state: the newer one follows it.
 */

type Input<M extends keyof CallOutbox> = Parameters<CallOutbox[M]>[0];

/** The key on the device waits for the cloud, or was refused: the device can't connect, and nobody has claimed it. */
const KEY_IS_TOLD = `NOT EXISTS (
  SELECT 1 FROM sends JOIN keys ON keys.id = sends.key_id
   WHERE sends.device_id = cloud_calls.device_id AND (sends.state = 'pending' OR (sends.state = 'refused' AND keys.state = 'active')))
  AND NOT EXISTS (
  SELECT 1 FROM writes WHERE writes.device_id = cloud_calls.device_id AND writes.phase IN ('writing', 'refused', 'rolling-back'))`;

const IS_FIRST = `(kind = '${CALL_KINDS[0]}' OR NOT EXISTS (
  SELECT 1 FROM cloud_calls AS earlier
   WHERE earlier.device_id = cloud_calls.device_id AND earlier.kind = '${CALL_KINDS[0]}' AND earlier.state = 'pending'))`;

const NOBODY_HOLDS_ONE = `NOT EXISTS (
  SELECT 1 FROM cloud_calls AS other WHERE other.device_id = cloud_calls.device_id AND other.lease_until > :at)
  AND NOT EXISTS (SELECT 1 FROM sends WHERE sends.device_id = cloud_calls.device_id AND sends.lease_until > :at)`;

/** A time of its last change in the future is that of a clock that jumped: what it said of the next try holds no more. */
const IS_DUE = `state = 'pending' AND (next_at <= :dueAt OR updated_at > :at)`;

const CAN_BE_MADE = `${IS_DUE} AND ${IS_FIRST} AND ${KEY_IS_TOLD} AND ${NOBODY_HOLDS_ONE}`;

interface KnownCall {
  readonly callId: number;
  readonly state: CallState;
  readonly payload: string;
  readonly productId: string | null;
}

export function queueCall(db: Db, call: Input<'queueCall'>): { callId: number; state: CallState } {
  const { deviceId, kind, payload, productId, unlessDone, at } = call;
  const newest = db.get<KnownCall>(
    `SELECT id AS callId, state, payload, product_id AS productId FROM cloud_calls
      WHERE device_id = ? AND kind = ? ORDER BY id DESC LIMIT 1`,
    deviceId,
    kind,
  );
  const saysTheSame = newest?.payload === payload && newest.productId === productId;
  if (newest && saysTheSame && (newest.state === 'pending' || (unlessDone && newest.state === 'done'))) {
    return { callId: newest.callId, state: newest.state };
  }
  db.run(
    `UPDATE cloud_calls SET state = 'superseded', updated_at = ?
      WHERE device_id = ? AND kind = ? AND state IN ('pending', 'refused')`,
    at,
    deviceId,
    kind,
  );
  const { id } = db.run(
    `INSERT INTO cloud_calls (device_id, kind, payload, product_id, state, next_at, created_at, updated_at)
     VALUES (?, ?, ?, ?, 'pending', ?, ?, ?)`,
    deviceId,
    kind,
    payload,
    productId,
    at,
    at,
    at,
  );
  return { callId: id, state: 'pending' };
}

export function dueCalls(db: Db, query: Input<'dueCalls'>): DueCall[] {
  const { kind, at, ignoreDue, deviceId, afterCallId = 0, limit = DUE_AT_ONCE } = query;
  if (afterCallId === 0) freeDeadLeases(db);
  return db.all<DueCall>(
    `SELECT id AS callId, device_id AS deviceId, kind FROM cloud_calls
      WHERE kind = :kind AND id > :afterCallId AND (:deviceId IS NULL OR device_id = :deviceId) AND ${CAN_BE_MADE}
      ORDER BY id LIMIT :limit`,
    { kind, at, dueAt: dueAt({ at, ignoreDue }), deviceId, afterCallId, limit },
  );
}

export function leaseCall(db: Db, lease: Input<'leaseCall'>): LeasedCall | null {
  const { callId, owner, at, untilAt } = lease;
  const { changes } = db.run(
    `UPDATE cloud_calls SET lease_owner = :owner, lease_until = :untilAt, attempts = attempts + 1, updated_at = :at
      WHERE id = :callId AND ${CAN_BE_MADE}`,
    { callId, owner, at, untilAt, dueAt: dueAt(lease) },
  );
  if (changes === 0) return null;
  const call = db.get<LeasedCall>(
    `SELECT id AS callId, device_id AS deviceId, kind, payload, product_id AS productId, attempts,
            (SELECT max(sends.accepted_at) FROM sends JOIN keys ON keys.id = sends.key_id
              WHERE sends.device_id = cloud_calls.device_id AND keys.state = 'active') AS keyAcceptedAt
       FROM cloud_calls WHERE id = ?`,
    callId,
  );
  return call ?? null;
}

export function callStateOf(db: Db, callId: number): CallState | null {
  return db.get<{ state: CallState }>('SELECT state FROM cloud_calls WHERE id = ?', callId)?.state ?? null;
}

export function recordCallDone(db: Db, done: Input<'recordCallDone'>): void {
  db.change(
    `UPDATE cloud_calls SET state = CASE state WHEN 'pending' THEN 'done' ELSE state END, last_status = :status,
            last_error = NULL, updated_at = :at, ${FREE_OWN} WHERE id = :callId`,
    done,
  );
}

export function recordCallRefused(db: Db, refused: Input<'recordCallRefused'>): void {
  db.change(
    `UPDATE cloud_calls SET state = CASE state WHEN 'pending' THEN 'refused' ELSE state END, last_status = :status,
            last_error = :error, updated_at = :at, ${FREE_OWN} WHERE id = :callId`,
    refused,
  );
}

export function recordCallUnknown(db: Db, unknown: Input<'recordCallUnknown'>): void {
  db.change(
    `UPDATE cloud_calls SET next_at = :nextAt, last_status = :status, last_error = :error, updated_at = :at, ${FREE_OWN}
      WHERE id = :callId`,
    unknown,
  );
}

/** Kinds in the order in which they are made. */
export function inOrder(kinds: readonly CallKind[]): CallKind[] {
  return CALL_KINDS.filter(kind => kinds.includes(kind));
}
