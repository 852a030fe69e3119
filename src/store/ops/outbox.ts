import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import { REFUSAL_DOUBTS } from '../../core/ledger.ts';
import type { DueSend, LeasedSend, Outbox, RefusalDoubt } from '../../core/ledger.ts';
import type { Db } from '../db.ts';
import { freeDeadLeases } from './lease-owner.ts';

type Input<M extends keyof Outbox> = Parameters<Outbox[M]>[0];

/** While a device is writing, waits for its roll-back or is rolling back, none of its sends goes. */
const DEVICE_IS_QUIET = `NOT EXISTS (
  SELECT 1 FROM writes WHERE writes.device_id = sends.device_id AND writes.phase IN ('writing', 'refused', 'rolling-back'))`;

const NOBODY_HOLDS_ONE = `NOT EXISTS (
  SELECT 1 FROM sends AS other WHERE other.device_id = sends.device_id AND other.lease_until > :at)`;

const DUE_AT_ONCE = 500;

/** Leases are few and pages long: they are looked up once for a page. */
export function dueSends(db: Db, query: Input<'dueSends'>): DueSend[] {
  const { at, ignoreDue, deviceId, afterSendId = 0, limit = DUE_AT_ONCE } = query;
  if (afterSendId === 0) freeDeadLeases(db);
  return db.all<DueSend>(
    `SELECT id AS sendId, device_id AS deviceId FROM sends
      WHERE state = 'pending' AND (next_at <= :dueAt OR updated_at > :at) AND id > :afterSendId AND (:deviceId IS NULL OR device_id = :deviceId)
        AND ${DEVICE_IS_QUIET} AND device_id NOT IN (SELECT device_id FROM sends WHERE lease_until > :at)
      ORDER BY id LIMIT :limit`,
    { at, dueAt: ignoreDue ? Number.MAX_SAFE_INTEGER : at, deviceId, afterSendId, limit },
  );
}

export function leaseSend(db: Db, lease: Input<'leaseSend'>): LeasedSend | null {
  // A lease that ran out belongs to a process that died with a request on its way: that one may yet be carried out.
  const { changes } = db.run(
    `UPDATE sends
        SET lease_owner = :owner, lease_until = :untilAt, attempts = attempts + 1,
            unknowns = unknowns + (lease_owner IS NOT NULL), unanswered = unanswered + (lease_owner IS NOT NULL),
            updated_at = :at
      WHERE id = :sendId AND state = 'pending' AND (:ignoreDue OR next_at <= :at OR updated_at > :at)
        AND ${DEVICE_IS_QUIET} AND ${NOBODY_HOLDS_ONE}`,
    { ...lease, ignoreDue: lease.ignoreDue ? 1 : 0 },
  );
  if (changes === 0) return null;
  const row = db.get<LeasedSend>(
    `SELECT sends.id AS sendId, sends.device_id AS deviceId, keys.generation, keys.fingerprint,
            keys.public_pem AS publicPem, sends.product_id AS productId, sends.unknowns, sends.unanswered, sends.attempts
       FROM sends JOIN keys ON keys.id = sends.key_id WHERE sends.id = ?`,
    lease.sendId,
  );
  return row ?? null;
}

export function stateOf(db: Db, sendId: number): string | null {
  return db.get<{ state: string }>('SELECT state FROM sends WHERE id = ?', sendId)?.state ?? null;
}

const FREE = 'lease_owner = NULL, lease_until = NULL';

export function recordAccepted(db: Db, { sendId, status, at }: Input<'recordAccepted'>): void {
  db.change(
    `UPDATE sends SET state = CASE state WHEN 'pending' THEN 'accepted' ELSE state END, accepted_at = ?, unknowns = 0, unanswered = 0,
            last_status = ?, last_error = NULL, updated_at = ?, ${FREE} WHERE id = ?`,
    at,
    status,
    at,
    sendId,
  );
  movePhase(db, sendId, 'accepted', at);
}

export function recordRefused(db: Db, { sendId, status, error, doubt, at }: Input<'recordRefused'>): void {
  db.change(
    `UPDATE sends SET state = CASE state WHEN 'pending' THEN 'refused' ELSE state END, last_status = ?, last_error = ?,
            updated_at = ?, ${FREE} WHERE id = ?`,
    status,
    error,
    at,
    sendId,
  );
  movePhase(db, sendId, 'refused', at, doubt);
}

export function recordUnknown(db: Db, { sendId, status, error, nextAt, at }: Input<'recordUnknown'>): void {
  db.change(
    `UPDATE sends SET unknowns = unknowns + (:status IS NOT 401),
            unanswered = unanswered + (:status IS NULL OR :status = 504), next_at = :nextAt, last_status = :status,
            last_error = :error, updated_at = :at, ${FREE} WHERE id = :sendId`,
    { sendId, status, error, nextAt, at },
  );
  movePhase(db, sendId, 'unknown', at);
}

/** The write of the key moves with its send, as long as the device has not left. */
function movePhase(db: Db, sendId: number, phase: string, at: number, doubt: RefusalDoubt = 'none'): void {
  db.run(
    `UPDATE writes SET phase = ?, refusal_uncertain = ?, updated_at = ?,
            last_attempt_id = coalesce((SELECT max(id) FROM attempts WHERE attempts.device_id = writes.device_id
                                         AND attempts.ended_at IS NULL), last_attempt_id)
      WHERE key_id = (SELECT key_id FROM sends WHERE id = ?) AND phase IN ('verified', 'unknown')`,
    phase,
    REFUSAL_DOUBTS.indexOf(doubt),
    at,
    sendId,
  );
}

interface SendRow {
  sendId: number;
  state: string;
  keyState: string;
  leased: number;
}

/** The send of a device's newest key that can be acted on by hand. */
function currentSend(db: Db, deviceId: DeviceId, at: number): SendRow {
  const row = db.get<SendRow>(
    `SELECT sends.id AS sendId, sends.state, keys.state AS keyState,
            (sends.lease_until IS NOT NULL AND sends.lease_until > ?) AS leased
       FROM sends JOIN keys ON keys.id = sends.key_id
      WHERE sends.device_id = ? ORDER BY (keys.state = 'active') DESC, keys.generation DESC LIMIT 1`,
    at,
    deviceId,
  );
  if (!row) throw new Fault('SEND_NOT_FOUND', `no send of device ${deviceId} is on record`);
  return row;
}

/** A parked (refused, dropped) or waiting send goes out with the next `replay`. */
export function retrySend(db: Db, { deviceId, at }: { deviceId: DeviceId; at: number }): void {
  const send = currentSend(db, deviceId, at);
  if (send.keyState !== 'active') {
    throw new Fault('SEND_NOT_FOUND', `device ${deviceId} does not carry the key of that send any more`, {
      hint: 'its old key was put back: `photon-fleet run --retry-failed` gives it a fresh one',
    });
  }
  if (send.state === 'accepted' || send.state === 'superseded' || send.state === 'held') {
    throw new Fault('SEND_NOT_FOUND', `the send of device ${deviceId} is ${send.state}: there is nothing to retry`);
  }
  const phase = db.get<{ phase: string }>(
    `SELECT writes.phase FROM writes JOIN sends ON sends.key_id = writes.key_id
      WHERE sends.id = ? AND writes.phase IN ('refused', 'rolling-back')`,
    send.sendId,
  )?.phase;
  if (phase === 'rolling-back') {
    throw new Fault(
      'SEND_NOT_FOUND',
      `the old key of device ${deviceId} is being put back: its send can't be retried`,
      {
        hint: 'put the device into DFU mode and run again: that finishes the roll-back',
      },
    );
  }
  // Whoever retries says that the device keeps this key: it is not rolled back any more.
  if (phase === 'refused') {
    db.run(
      `UPDATE writes SET phase = 'unknown', updated_at = ? WHERE device_id = ? AND phase = 'refused'`,
      at,
      deviceId,
    );
  }
  db.change(`UPDATE sends SET state = 'pending', next_at = ?, updated_at = ? WHERE id = ?`, at, at, send.sendId);
}

export function dropSend(db: Db, { deviceId, why, at }: { deviceId: DeviceId; why: string; at: number }): void {
  const send = currentSend(db, deviceId, at);
  if (send.state !== 'pending' && send.state !== 'refused') {
    throw new Fault('SEND_NOT_FOUND', `the send of device ${deviceId} is ${send.state}: there is nothing to drop`);
  }
  if (send.leased) {
    throw new Fault('SEND_IN_FLIGHT', `the send of device ${deviceId} is on its way to the cloud`);
  }
  db.change(
    `UPDATE sends SET state = 'dropped', last_error = ?, updated_at = ? WHERE id = ?`,
    `dropped: ${why}`,
    at,
    send.sendId,
  );
}
