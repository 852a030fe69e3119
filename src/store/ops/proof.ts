import type { DeviceId } from '../../core/device-id.ts';
import { REFUSAL_DOUBTS } from '../../core/ledger.ts';
import type { RefusalDoubt } from '../../core/ledger.ts';
import type { Db } from '../db.ts';

/* What came of the cloud's handshake, with a key that the cloud had accepted. */

/** Nothing changes but what the journal says. */
export function recordProven(db: Db, { writeId }: { writeId: number }): void {
  const write = db.get<{ device: DeviceId; run: number; generation: number; fingerprint: string }>(
    `SELECT writes.device_id AS device, attempts.run_id AS run, keys.generation, keys.fingerprint
       FROM writes JOIN keys ON keys.id = writes.key_id JOIN attempts ON attempts.id = coalesce(
         (SELECT max(id) FROM attempts AS newest WHERE newest.device_id = writes.device_id), writes.attempt_id)
      WHERE writes.id = ?`,
    writeId,
  );
  if (!write) throw new Error(`there is no write of a key ${writeId}`);
  const { device, run, generation, fingerprint } = write;
  db.journal.say({ event: 'proven', device, run, facts: { generation, fingerprint } });
}

/**
 * Phase accepted → refused, and the send with it: the cloud took the key over HTTP, and the device can't connect. From here
 * on it is a refusal as any other; the cloud has stored the key, so it is to be told the old one again.
 * @returns `late` where an earlier try of this key got no clear answer: it may yet land, after the old one
 */
export function recordProofRefused(
  db: Db,
  { writeId, reason, at }: { writeId: number; reason: string; at: number },
): { doubt: RefusalDoubt } {
  const send = db.get<{ id: number; attempts: number }>(
    `SELECT sends.id, sends.attempts FROM writes JOIN sends ON sends.key_id = writes.key_id
      WHERE writes.id = ? AND writes.phase = 'accepted' AND sends.state = 'accepted'`,
    writeId,
  );
  if (!send) throw new Error(`write ${writeId} has no key that the cloud has accepted`);
  const doubt = send.attempts > 1 ? 'late' : 'stored';
  db.change(
    `UPDATE sends SET state = 'refused', last_status = NULL, last_error = ?, confirm_at = NULL, updated_at = ? WHERE id = ?`,
    reason,
    at,
    send.id,
  );
  db.change(
    `UPDATE writes SET phase = 'refused', refusal_uncertain = ?, updated_at = ?,
            last_attempt_id = (SELECT max(id) FROM attempts WHERE attempts.device_id = writes.device_id)
      WHERE id = ?`,
    REFUSAL_DOUBTS.indexOf(doubt),
    at,
    writeId,
  );
  return { doubt };
}
