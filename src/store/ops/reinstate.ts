import type { DeviceId } from '../../core/device-id.ts';
import type { Db } from '../db.ts';
import { activate, deactivateActive, noteKey } from './key-states.ts';
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
            WHERE keys.device_id = ? AND keys.fingerprint = ? AND keys.id IS NOT ? ORDER BY keys.generation DESC LIMIT 1`,
          deviceId,
          fingerprint,
          key.insteadOfKeyId,
        );
  if (!known && !resend) return { sendId: null };
  deactivateActive(db, {
    deviceId,
    exceptKeyId: known?.key_id ?? null,
    reason: 'an earlier key is on the device again',
    at,
  });
  db.run(
    `UPDATE sends SET state = 'superseded', updated_at = ? WHERE device_id = ? AND state IN ('held', 'pending')`,
    at,
    deviceId,
  );
  if (!known && resend) return insertRestored(db, deviceId, resend, key.insteadOfKeyId, at);
  if (!known) return { sendId: null };
  // One whose own write failed its verification is proven by now: its bytes were read there, or put back and compared.
  activate(db, { keyId: known.key_id, reason: 'it is on the device again', at });
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
  noteKey(db, { keyId, state: 'active', reason: 'put back on the device', at });
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
