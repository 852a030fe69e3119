import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import { REFUSAL_DOUBTS } from '../../core/ledger.ts';
import type { DueSend, LeasedSend, Outbox, RefusalDoubt } from '../../core/ledger.ts';
import type { Db } from '../db.ts';
import { freeDeadLeases } from './lease-owner.ts';
import { DUE_AT_ONCE, dueAt, FREE_OWN } from './leases.ts';

type Input<M extends keyof Outbox> = Parameters<Outbox[M]>[0];

/** While a device is writing, waits for its roll-back or is rolling back, none of its sends goes. */
const DEVICE_IS_QUIET = `NOT EXISTS (
  SELECT 1 FROM writes WHERE writes.device_id = sends.device_id AND writes.phase IN ('writing', 'refused', 'rolling-back'))`;

const NOBODY_HOLDS_ONE = `NOT EXISTS (
  SELECT 1 FROM sends AS other WHERE other.device_id = sends.device_id AND other.lease_until > :at)`;

/** Waiting to be told, or accepted and to be told once more; a key that is not on its device any more is neither. */
const IS_DUE = `(
  (state = 'pending' AND (next_at <= :dueAt OR updated_at > :at))
  OR (state = 'accepted' AND (confirm_at <= :dueAt OR (confirm_at IS NOT NULL AND updated_at > :at))
      AND EXISTS (SELECT 1 FROM keys WHERE keys.id = sends.key_id AND keys.state = 'active')))`;

/** Leases are few and pages long: they are looked up once for a page. */
export function dueSends(db: Db, query: Input<'dueSends'>): DueSend[] {
  const { at, ignoreDue, deviceId, afterSendId = 0, limit = DUE_AT_ONCE } = query;
  if (afterSendId === 0) freeDeadLeases(db);
  return db.all<DueSend>(
    `SELECT id AS sendId, device_id AS deviceId FROM sends
      WHERE ${IS_DUE} AND id > :afterSendId
        AND (:deviceId IS NULL OR device_id = :deviceId)
        AND ${DEVICE_IS_QUIET} AND device_id NOT IN (SELECT device_id FROM sends WHERE lease_until > :at)
      ORDER BY id LIMIT :limit`,
    { at, dueAt: dueAt({ at, ignoreDue }), deviceId, afterSendId, limit },
  );
}

export function leaseSend(db: Db, lease: Input<'leaseSend'>): LeasedSend | null {
  // A lease that ran out belongs to a process that died with a request on its way: that one may yet be carried out.
  const { changes } = db.run(
    `UPDATE sends
        SET lease_owner = :owner, lease_until = :untilAt, attempts = attempts + 1,
            unknowns = unknowns + (lease_owner IS NOT NULL), unanswered = unanswered + (lease_owner IS NOT NULL),
            updated_at = :at
      WHERE id = :sendId AND ${IS_DUE}
        AND ${DEVICE_IS_QUIET} AND ${NOBODY_HOLDS_ONE}`,
    { sendId: lease.sendId, owner: lease.owner, at: lease.at, untilAt: lease.untilAt, dueAt: dueAt(lease) },
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

/** For how long a request without an answer may yet be carried out, as far as anybody can tell: longer than proxies wait. */
const LATE_MS = 120_000;

/** Older ones are over. */
const LATE_WINDOW_MS = 3_600_000;

export function recordAccepted(db: Db, { sendId, owner, status, at }: Input<'recordAccepted'>): boolean {
  const late = db.get(
    `SELECT 1 FROM sends AS older JOIN sends AS this ON this.device_id = older.device_id
      WHERE this.id = :sendId AND this.accepted_at IS NULL
        AND older.id <> this.id AND older.unanswered > 0 AND older.updated_at > :since`,
    { sendId, since: at - LATE_WINDOW_MS },
  );
  db.change(
    `UPDATE sends SET state = CASE state WHEN 'pending' THEN 'accepted' ELSE state END, accepted_at = :at, unknowns = 0,
            unanswered = 0, confirm_at = :confirmAt, last_status = :status, last_error = NULL, updated_at = :at, ${FREE_OWN}
      WHERE id = :sendId`,
    { sendId, owner, status, at, confirmAt: late ? at + LATE_MS : null },
  );
  movePhase(db, sendId, 'accepted', at);
  return late === undefined;
}

export function recordRefused(db: Db, refused: Input<'recordRefused'>): void {
  const { sendId, owner, status, error, doubt, at } = refused;
  db.change(
    `UPDATE sends SET state = CASE state WHEN 'pending' THEN 'refused' ELSE state END, last_status = :status,
            last_error = :error, confirm_at = NULL, updated_at = :at, ${FREE_OWN} WHERE id = :sendId`,
    { sendId, owner, status, error, at },
  );
  movePhase(db, sendId, 'refused', at, doubt);
}

export function recordUnknown(db: Db, unknown: Input<'recordUnknown'>): void {
  const { mayLandLate, ...send } = unknown;
  db.change(
    `UPDATE sends SET unknowns = unknowns + (:status IS NOT 401), unanswered = unanswered + :late, next_at = :nextAt,
            confirm_at = CASE WHEN confirm_at IS NULL THEN NULL ELSE :nextAt END,
            last_status = :status, last_error = :error, updated_at = :at, ${FREE_OWN} WHERE id = :sendId`,
    { ...send, late: mayLandLate ? 1 : 0 },
  );
  movePhase(db, send.sendId, 'unknown', send.at);
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
