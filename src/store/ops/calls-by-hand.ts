import type { CallKind, CallState } from '../../core/cloud-calls.ts';
import type { DeviceId } from '../../core/device-id.ts';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { inOrder } from './cloud-calls.ts';

/* What a hand asks of the calls on record, and what it is shown. */

/** A call as it is listed. */
export interface CallEntry {
  readonly deviceId: DeviceId;
  readonly kind: CallKind;
  readonly state: CallState;
  readonly attempts: number;
  /** Of a pending one, epoch ms; it may have to wait for its turn beyond that. */
  readonly nextAt: number | null;
  readonly lastStatus: number | null;
  readonly lastError: string | null;
}

const ENTRY = `device_id AS deviceId, kind, state, attempts, CASE state WHEN 'pending' THEN next_at END AS nextAt,
               last_status AS lastStatus, last_error AS lastError`;

export function callsReport(db: Db, state: string | null): CallEntry[] {
  return db.all<CallEntry>(`SELECT ${ENTRY} FROM cloud_calls WHERE ? IS NULL OR state = ? ORDER BY id`, state, state);
}

export function callsOf(db: Db, deviceId: DeviceId): CallEntry[] {
  return db.all<CallEntry>(`SELECT ${ENTRY} FROM cloud_calls WHERE device_id = ? ORDER BY id`, deviceId);
}

export function pendingCalls(db: Db, deviceId: DeviceId | null): number {
  const found = db.get<{ n: number }>(
    `SELECT count(*) AS n FROM cloud_calls WHERE state = 'pending' AND (? IS NULL OR device_id = ?)`,
    deviceId,
    deviceId,
  );
  return found?.n ?? 0;
}

/** Where the calls of a device stand, for SQL that has it in `column`: null where it has none. */
export const callsStateOf = (column: string): string =>
  `(SELECT CASE WHEN sum(state = 'pending') > 0 THEN 'pending' WHEN sum(state = 'refused') > 0 THEN 'refused'
                WHEN count(*) > 0 THEN 'settled' END
      FROM cloud_calls WHERE device_id = ${column})`;

interface NewestCall {
  readonly id: number;
  readonly kind: CallKind;
  readonly state: CallState;
  readonly leased: number;
}

/** The newest of each kind: older ones are settled, or have been superseded. */
function newestCalls(db: Db, deviceId: DeviceId, at: number): NewestCall[] {
  return db.all<NewestCall>(
    `SELECT id, kind, state, (lease_until IS NOT NULL AND lease_until > :at) AS leased FROM cloud_calls
      WHERE id IN (SELECT max(id) FROM cloud_calls WHERE device_id = :deviceId GROUP BY kind)`,
    { deviceId, at },
  );
}

/** Parked (refused, dropped) or waiting calls of a device go out with the next `replay`. @returns their kinds */
export function retryCalls(db: Db, { deviceId, at }: { deviceId: DeviceId; at: number }): CallKind[] {
  const calls = newestCalls(db, deviceId, at).filter(({ state }) => ['pending', 'refused', 'dropped'].includes(state));
  for (const { id } of calls) {
    db.change(`UPDATE cloud_calls SET state = 'pending', next_at = ?, updated_at = ? WHERE id = ?`, at, at, id);
  }
  return inOrder(calls.map(({ kind }) => kind));
}

/** Waiting and refused calls of a device are never made. @returns their kinds. @throws Fault SEND_IN_FLIGHT */
export function dropCalls(db: Db, { deviceId, why, at }: { deviceId: DeviceId; why: string; at: number }): CallKind[] {
  const calls = newestCalls(db, deviceId, at).filter(({ state }) => state === 'pending' || state === 'refused');
  if (calls.some(({ leased }) => leased)) {
    throw new Fault('SEND_IN_FLIGHT', `a call for device ${deviceId} is on its way to the cloud`);
  }
  for (const { id } of calls) {
    db.change(
      `UPDATE cloud_calls SET state = 'dropped', last_error = ?, updated_at = ? WHERE id = ?`,
      `dropped: ${why}`,
      at,
      id,
    );
  }
  return inOrder(calls.map(({ kind }) => kind));
}
