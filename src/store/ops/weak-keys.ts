import type { DeviceId } from '../../core/device-id.ts';
import type { Db } from '../db.ts';
import { isCompromised, onDevice } from './on-device.ts';

export const WEAKNESSES = ['misread', 'shared', 'not-accepted', 'not-verified', 'compromised'] as const;
export type Weakness = (typeof WEAKNESSES)[number];

export interface WeakDevice {
  readonly deviceId: DeviceId;
  /** Of the key that is on it, as far as the record knows. */
  readonly fingerprint: string | null;
  readonly reasons: readonly { readonly reason: Weakness; readonly detail: string }[];
}

/** In pages: of the first `limit` devices after `after`, those with a weak key; `next` is null after the last page. */
export function weakDevices(
  db: Db,
  { after, limit }: { after: string; limit: number },
): { weak: WeakDevice[]; next: DeviceId | null } {
  const devices = db.all<{ deviceId: DeviceId }>(
    'SELECT device_id AS deviceId FROM devices WHERE device_id > ? ORDER BY device_id LIMIT ?',
    after,
    limit,
  );
  const weak = devices.map(({ deviceId }) => weaknessesOf(db, deviceId)).filter(({ reasons }) => reasons.length > 0);
  return { weak, next: devices.length < limit ? null : (devices.at(-1)?.deviceId ?? null) };
}

function weaknessesOf(db: Db, deviceId: DeviceId): WeakDevice {
  const there = onDevice(db, deviceId);
  const fingerprint = there?.fingerprint ?? null;
  const reasons: { reason: Weakness; detail: string }[] = [];
  const say = (reason: Weakness, detail: string | null): void => {
    if (detail !== null) reasons.push({ reason, detail });
  };
  say(
    'misread',
    there && there.classification !== 'readable' ? (MISREAD[there.classification] ?? MISREAD.other) : null,
  );
  say('shared', fingerprint === null ? null : sharedBy(db, deviceId, fingerprint));
  say('not-accepted', notAccepted(db, deviceId));
  say('not-verified', notVerified(db, deviceId));
  say('compromised', isCompromised(db, fingerprint) ? 'its key is marked compromised' : null);
  return { deviceId, fingerprint, reasons };
}

const MISREAD: Readonly<Record<string, string>> & { readonly other: string } = {
  misread: 'the firmware takes wrong numbers from its key (misread)',
  pkcs8: 'its key is wrapped in a way that the firmware does not read (pkcs8)',
  truncated: 'its key is cut short (truncated)',
  blank: 'it has no key (blank)',
  zeros: 'there are zeros where its key should be (zeros)',
  other: 'what lies where its key should be is none (other)',
};

/** The same key on record for another device: here, or there now. One is named. */
function sharedBy(db: Db, deviceId: DeviceId, fingerprint: string): string | null {
  const other =
    db.get<{ id: DeviceId }>(
      'SELECT device_id AS id FROM keys WHERE fingerprint = ? AND device_id <> ? LIMIT 1',
      fingerprint,
      deviceId,
    ) ??
    db.get<{ id: DeviceId }>(
      'SELECT device_id AS id FROM backups WHERE fingerprint = ? AND device_id <> ? LIMIT 1',
      fingerprint,
      deviceId,
    );
  return other ? `its key is that of ${other.id} too` : null;
}

function notAccepted(db: Db, deviceId: DeviceId): string | null {
  const send = db.get<{ state: string; error: string | null }>(
    `SELECT sends.state, sends.last_error AS error FROM keys JOIN sends ON sends.key_id = keys.id
      WHERE keys.device_id = ? AND keys.state = 'active'`,
    deviceId,
  );
  if (!send || send.state === 'accepted') return null;
  return `the cloud has not accepted its key (${send.state}${send.error === null ? '' : `: ${send.error}`})`;
}

/** A block was sent to the device, and what it became was never read back. */
function notVerified(db: Db, deviceId: DeviceId): string | null {
  const write = db.get<{ phase: string }>(
    `SELECT phase FROM writes WHERE device_id = ? AND phase IN ('writing', 'rolling-back') 
        AND (key_id IS NOT NULL OR restored_backup_id IS NOT NULL)`,
    deviceId,
  );
  if (!write) return null;
  return write.phase === 'writing' ? 'its new key was never verified' : 'its old key is not proven to be back';
}
