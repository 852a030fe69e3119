import type { DeviceId } from '../../core/device-id.ts';
import type { Db } from '../db.ts';

/*
 * The states of a key after NIST SP 800-57 part 1, section 7: pre-activation (made, not yet proven on the device), active
 * (on the device), deactivated (replaced or rolled back). What a hand marks (compromised, destroyed) stands beside them,
 * since a compromised key may well be on its device still. Each change is recorded with its time and its reason.
 */

interface KeyChange {
  readonly keyId: number;
  readonly state: 'pre-activation' | 'active' | 'deactivated' | 'compromised' | 'destroyed';
  readonly reason: string;
  readonly at: number;
}

export function noteKey(db: Db, { keyId, state, reason, at }: KeyChange): void {
  db.run('INSERT INTO key_changes (key_id, state, reason, at) VALUES (?, ?, ?, ?)', keyId, state, reason, at);
}

export function activate(db: Db, { keyId, reason, at }: Omit<KeyChange, 'state'>): void {
  const { changes } = db.run(`UPDATE keys SET state = 'active' WHERE id = ? AND state <> 'active'`, keyId);
  db.change(`UPDATE keys SET deactivated_at = NULL, verified_at = coalesce(verified_at, ?) WHERE id = ?`, at, keyId);
  if (changes > 0) noteKey(db, { keyId, state: 'active', reason, at });
}

export function deactivate(db: Db, { keyId, reason, at }: Omit<KeyChange, 'state'>): void {
  const { changes } = db.run(`UPDATE keys SET state = 'deactivated' WHERE id = ? AND state <> 'deactivated'`, keyId);
  db.change(`UPDATE keys SET deactivated_at = ? WHERE id = ?`, at, keyId);
  if (changes > 0) noteKey(db, { keyId, state: 'deactivated', reason, at });
}

/** Whatever the device carried before. */
export function deactivateActive(
  db: Db,
  key: { deviceId: DeviceId; exceptKeyId: number | null; reason: string; at: number },
): void {
  const active = db.all<{ id: number }>(
    `SELECT id FROM keys WHERE device_id = ? AND state = 'active' AND id IS NOT ?`,
    key.deviceId,
    key.exceptKeyId,
  );
  for (const { id } of active) deactivate(db, { keyId: id, reason: key.reason, at: key.at });
}
