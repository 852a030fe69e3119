import { sha256Hex } from '../../core/bytes.ts';
import type { DeviceId } from '../../core/device-id.ts';
import { REFUSAL_DOUBTS } from '../../core/ledger.ts';
import type { Ledger, NewKey, NewWrite, OpenPhase, OpenWrite, WritePhase } from '../../core/ledger.ts';
import type { Db } from '../db.ts';
import { isOwnerAlive } from './lease-owner.ts';
import { activate, deactivate, deactivateActive, noteKey } from './key-states.ts';
import { IS_OPEN } from './open-writes.ts';
import { reinstate } from './reinstate.ts';

/*
 * The state machine of a write (core/ledger.ts names the phases), and of the key and the send that go with it:
 *
 *   prepareWrite    → prepared       key pre-activation, send held
 *   markWriting     → writing        refused while a send of the device is in flight
 *   markVerified    → verified       key active, the one before it deactivated; send pending, older ones superseded
 *   (outbox)        → accepted | unknown | refused
 *   recordProofRefused (proof.ts): accepted → refused, and the send with it
 *   markLeft        → left
 *   markRollingBack → rolling-back   refused while a send of the device is in flight
 *   markRolledBack  → rolled-back    key deactivated, the one before it active again, its send pending again
 *   abandonWrite    → abandoned      key deactivated, its send superseded
 *
 * `moveTo` makes every change of phase. A key that is put back from a backup is a new generation, whoever made it: so the
 * newer generation is always the one that came onto the device later, and it is sent anew.
 */
function moveTo(db: Db, writeId: number, phase: WritePhase, from: readonly OpenPhase[], at: number): void {
  db.change(
    `UPDATE writes SET phase = ?, updated_at = ?,
            last_attempt_id = (SELECT max(id) FROM attempts WHERE attempts.device_id = writes.device_id)
      WHERE id = ? AND phase IN (${from.map(one => `'${one}'`).join(', ')})`,
    phase,
    at,
    writeId,
  );
}

interface WriteRow {
  id: number;
  device_id: DeviceId;
  key_id: number | null;
  phase: WritePhase;
  restored_backup_id: number | null;
}

function writeRow(db: Db, writeId: number): WriteRow {
  const row = db.get<WriteRow>(
    'SELECT id, device_id, key_id, phase, restored_backup_id FROM writes WHERE id = ?',
    writeId,
  );
  if (!row) throw new Error(`there is no write ${writeId}`);
  return row;
}

export function nextGeneration(db: Db, deviceId: DeviceId): number {
  const row = db.get<{ n: number | null }>('SELECT max(generation) AS n FROM keys WHERE device_id = ?', deviceId);
  return (row?.n ?? 0) + 1;
}

export function prepareWrite(
  db: Db,
  write: NewWrite,
): { writeId: number; keyId: number | null; sendId: number | null } {
  const key = write.key ? insertKey(db, write, write.key) : { keyId: null, sendId: null };
  const { id } = db.run(
    `INSERT INTO writes (device_id, attempt_id, backup_id, key_id, alternate, offset, length, old_sha256, new_sha256,
                         phase, prepared_at, updated_at, last_attempt_id, restored_backup_id)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'prepared', ?, ?, ?, ?)`,
    write.deviceId,
    write.attemptId,
    write.backupId,
    key.keyId,
    write.alternate,
    write.offset,
    write.length,
    write.oldSha256,
    write.newSha256,
    write.at,
    write.at,
    write.attemptId,
    write.restores ?? null,
  );
  return { writeId: id, ...key };
}

function insertKey(db: Db, { deviceId, restores, at }: NewWrite, key: NewKey): { keyId: number; sendId: number } {
  const made = restores === undefined;
  const keyId = db.run(
    `INSERT INTO keys (device_id, generation, fingerprint, algorithm, bits, origin, state, public_pem, sealed_private,
                       sealed_sha256, created_at)
     VALUES (?, ?, ?, ?, ?, ?, 'pre-activation', ?, ?, ?, ?)`,
    deviceId,
    key.generation ?? nextGeneration(db, deviceId),
    key.fingerprint,
    key.algorithm,
    key.bits,
    made ? 'made' : 'restored',
    key.publicPem,
    key.sealedPrivate,
    key.sealedPrivate && sha256Hex(key.sealedPrivate),
    at,
  ).id;
  noteKey(db, { keyId, state: 'pre-activation', reason: made ? 'made' : `taken from backup ${restores}`, at });
  const sendId = db.run(
    `INSERT INTO sends (key_id, device_id, product_id, state, created_at, updated_at) VALUES (?, ?, ?, 'held', ?, ?)`,
    keyId,
    deviceId,
    key.productId,
    at,
    at,
  ).id;
  return { keyId, sendId };
}

export function openWrite(db: Db, deviceId: DeviceId): OpenWrite | null {
  const row = db.get<OpenWriteRow>(
    `SELECT writes.id AS write_id, writes.phase, writes.alternate, writes.offset, writes.length, writes.old_sha256,
            writes.new_sha256, writes.refusal_uncertain, writes.key_id, writes.restored_backup_id,
            backups.id AS backup_id, backups.sha256, backups.bytes, backups.classification,
            backups.fingerprint AS backup_fingerprint, backups.taken_at, backups.sealed,
            keys.generation, keys.fingerprint, keys.public_pem, keys.sealed_private, sends.id AS send_id,
            CASE WHEN sends.state = 'refused' AND sends.accepted_at IS NOT NULL THEN sends.last_error END AS proof_refused
       FROM writes
       JOIN backups ON backups.id = writes.backup_id
       LEFT JOIN keys ON keys.id = writes.key_id
       LEFT JOIN sends ON sends.key_id = writes.key_id
      WHERE writes.device_id = ? AND ${IS_OPEN}`,
    deviceId,
  );
  if (!row) return null;
  return {
    writeId: row.write_id,
    phase: row.phase,
    alternate: row.alternate,
    offset: row.offset,
    length: row.length,
    oldSha256: row.old_sha256,
    newSha256: row.new_sha256,
    doubt: REFUSAL_DOUBTS[row.refusal_uncertain] ?? 'late',
    backup: {
      backupId: row.backup_id,
      sha256: row.sha256,
      bytes: row.bytes,
      classification: row.classification,
      fingerprint: row.backup_fingerprint,
      takenAt: row.taken_at,
      sealed: row.sealed,
    },
    key:
      row.key_id === null
        ? null
        : {
            keyId: row.key_id,
            generation: row.generation,
            fingerprint: row.fingerprint,
            publicPem: row.public_pem,
            sealedPrivate: row.sealed_private,
            sendId: row.send_id,
          },
    restores: row.restored_backup_id,
    ...(row.proof_refused !== null && { proofRefused: row.proof_refused }),
  };
}

interface OpenWriteRow {
  write_id: number;
  phase: OpenPhase;
  alternate: number;
  offset: number;
  length: number;
  old_sha256: string;
  new_sha256: string;
  refusal_uncertain: number;
  key_id: number | null;
  restored_backup_id: number | null;
  backup_id: number;
  sha256: string;
  bytes: number;
  classification: string;
  backup_fingerprint: string | null;
  taken_at: number;
  sealed: Uint8Array;
  generation: number;
  fingerprint: string;
  public_pem: string;
  sealed_private: Uint8Array | null;
  send_id: number;
  proof_refused: string | null;
}

function sendInFlight(db: Db, deviceId: DeviceId, at: number): boolean {
  const leases = db.all<{ lease_owner: string }>(
    'SELECT lease_owner FROM sends WHERE device_id = ? AND lease_until > ?',
    deviceId,
    at,
  );
  return leases.some(({ lease_owner: owner }) => isOwnerAlive(owner));
}

export function markWriting(db: Db, { writeId, at }: { writeId: number; at: number }): boolean {
  const { device_id: deviceId } = writeRow(db, writeId);
  if (sendInFlight(db, deviceId, at)) return false;
  moveTo(db, writeId, 'writing', ['prepared', 'writing'], at);
  return true;
}

export function markVerified(db: Db, { writeId, at }: { writeId: number; at: number }): void {
  const { device_id: deviceId, key_id: keyId, restored_backup_id: restored } = writeRow(db, writeId);
  moveTo(db, writeId, 'verified', ['writing', 'prepared', 'verified', 'unknown'], at);
  if (keyId === null && restored === null) return; // the key on the device is the one that it was
  deactivateActive(db, { deviceId, exceptKeyId: keyId, reason: 'replaced on the device', at });
  db.run(
    `UPDATE sends SET state = 'superseded', updated_at = ?
      WHERE device_id = ? AND key_id IS NOT ? AND state IN ('held', 'pending', 'refused')`,
    at,
    deviceId,
    keyId,
  );
  if (keyId === null) return; // what was put back is no key
  const reason = restored === null ? 'verified on the device' : 'put back and verified on the device';
  activate(db, { keyId, reason, at });
  db.run(
    `UPDATE sends SET state = 'pending', next_at = ?, updated_at = ? WHERE key_id = ? AND state = 'held'`,
    at,
    at,
    keyId,
  );
}

export function markLeftToOutbox(
  db: Db,
  { writeId, at }: { writeId: number; at: number },
): 'unknown' | 'accepted' | 'refused' | 'in-flight' {
  const { device_id: deviceId, phase } = writeRow(db, writeId);
  if (phase === 'accepted' || phase === 'refused') return phase;
  if (sendInFlight(db, deviceId, at)) return 'in-flight';
  moveTo(db, writeId, 'unknown', ['verified', 'unknown'], at);
  return 'unknown';
}

export function markLeft(db: Db, { writeId, at }: { writeId: number; at: number }): void {
  // Refused: a replay beside the run had its answer after the device had gone, as with one that has long left.
  moveTo(db, writeId, 'left', ['verified', 'unknown', 'accepted', 'refused'], at);
}

export function markRollingBack(db: Db, { writeId, at }: { writeId: number; at: number }): boolean {
  const { device_id: deviceId } = writeRow(db, writeId);
  if (sendInFlight(db, deviceId, at)) return false;
  moveTo(db, writeId, 'rolling-back', ['refused', 'rolling-back'], at);
  return true;
}

export function markRolledBack(db: Db, write: Parameters<Ledger['markRolledBack']>[0]): { sendId: number | null } {
  const { device_id: deviceId, key_id: keyId } = writeRow(db, write.writeId);
  moveTo(db, write.writeId, 'rolled-back', ['refused', 'rolling-back'], write.at);
  if (keyId !== null) deactivate(db, { keyId, reason: 'the cloud refused it: rolled back', at: write.at });
  if (keyId !== null) withdrawSend(db, keyId, write.at);
  const { oldFingerprint: fingerprint, resend, at } = write;
  return reinstate(db, { deviceId, fingerprint, resend, insteadOfKeyId: keyId, at });
}

export function abandonWrite(
  db: Db,
  { writeId, at, oldFingerprint }: { writeId: number; at: number; oldFingerprint: string | null },
): void {
  const { device_id: deviceId, key_id: keyId } = writeRow(db, writeId);
  moveTo(
    db,
    writeId,
    'abandoned',
    ['prepared', 'writing', 'verified', 'accepted', 'unknown', 'refused', 'rolling-back'],
    at,
  );
  if (keyId !== null) deactivate(db, { keyId, reason: 'other bytes were found on the device', at });
  if (keyId !== null) withdrawSend(db, keyId, at);
  if (oldFingerprint === null) return;
  reinstate(db, { deviceId, fingerprint: oldFingerprint, resend: null, insteadOfKeyId: keyId, at });
}

/** A key that is not on its device any more is never sent. */
function withdrawSend(db: Db, keyId: number, at: number): void {
  db.run(
    `UPDATE sends SET state = 'superseded', updated_at = ? WHERE key_id = ? AND state IN ('held', 'pending')`,
    at,
    keyId,
  );
}
