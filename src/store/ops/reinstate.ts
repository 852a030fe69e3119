import type { DeviceId } from '../../core/device-id.ts';
import type { Db } from '../db.ts';
import { nextGeneration } from './writes.ts';

/**
 * Makes an earlier key of a device current again, after its bytes were found or put back there. Its send is pending
 * again unless it was accepted; with `resend` the cloud is told in any case, and a key that the station did not make is
 * put on record as restored.
 * @returns the send that is pending now, if any
 */
export function reinstate(
  db: Db,
  key: {
    deviceId: DeviceId;
    fingerprint: string | null;
    resend: { fingerprint: string; publicPem: string } | null;
    /** The key that it takes the place of: its send says which product the device belongs to. */
    insteadOfKeyId: number | null;
    at: number;
  },
): { sendId: number | null } {
  const { deviceId, fingerprint, resend, at } = key;
  const known =
    fingerprint === null
      ? undefined
      : db.get<{ key_id: number; send_id: number; state: string }>(
          `SELECT keys.id AS key_id, sends.id AS send_id, sends.state FROM keys JOIN sends ON sends.key_id = keys.id
            WHERE keys.device_id = ? AND keys.fingerprint = ? ORDER BY keys.generation DESC LIMIT 1`,
          deviceId,
          fingerprint,
        );
  if (!known && !resend) return { sendId: null };
  db.run(
    `UPDATE keys SET state = 'deactivated', deactivated_at = ? WHERE device_id = ? AND state = 'active'`,
    at,
    deviceId,
  );
  db.run(
    `UPDATE sends SET state = 'superseded', updated_at = ? WHERE device_id = ? AND state IN ('held', 'pending')`,
    at,
    deviceId,
  );
  if (!known && resend) return insertRestored(db, deviceId, resend, key.insteadOfKeyId, at);
  if (!known) return { sendId: null };
  // One whose own write failed its verification is proven by now: its bytes were read there, or put back and compared.
  db.change(
    `UPDATE keys SET state = 'active', deactivated_at = NULL, verified_at = coalesce(verified_at, ?) WHERE id = ?`,
    at,
    known.key_id,
  );
  if (known.state === 'accepted' && !resend) return { sendId: null };
  db.change(`UPDATE sends SET state = 'pending', next_at = ?, updated_at = ? WHERE id = ?`, at, at, known.send_id);
  return { sendId: known.send_id };
}

function insertRestored(
  db: Db,
  deviceId: DeviceId,
  key: { fingerprint: string; publicPem: string },
  insteadOfKeyId: number | null,
  at: number,
): { sendId: number } {
  const keyId = db.run(
    `INSERT INTO keys (device_id, generation, fingerprint, algorithm, bits, origin, state, public_pem, created_at, verified_at)
     VALUES (?, ?, ?, 'rsa', 1024, 'restored', 'active', ?, ?, ?)`,
    deviceId,
    nextGeneration(db, deviceId),
    key.fingerprint,
    key.publicPem,
    at,
    at,
  ).id;
  const sendId = db.run(
    `INSERT INTO sends (key_id, device_id, product_id, state, next_at, created_at, updated_at)
     VALUES (?, ?, (SELECT product_id FROM sends WHERE key_id = ?), 'pending', ?, ?, ?)`,
    keyId,
    deviceId,
    insteadOfKeyId,
    at,
    at,
    at,
  ).id;
  return { sendId };
}
