import type { DeviceId } from '../../core/device-id.ts';
import type {
  EndedFlash,
  ModuleRecord,
  NewFlash,
  OpenFlash,
  SeenModules,
  WantedRecord,
} from '../../core/firmware-record.ts';
import type { Db } from '../db.ts';

/*
 * What was seen of a device's firmware, and what was flashed:
 *
 *   noteModules → a row for each slot in which something else was seen than the last time
 *   beginFlash  → writing; one that was under way for the same modules is taken up, one for others is given up
 *   endFlash    → whole, with what is on the device now
 */

export function noteModules(db: Db, { deviceId, attemptId, modules, at }: SeenModules): void {
  for (const { slot, state, version, function: fn, platform, sha256 } of modules) {
    const last = db.get<Omit<ModuleRecord, 'slot'>>(
      `SELECT state, version, function, platform, sha256 FROM modules
        WHERE device_id = ? AND slot = ? ORDER BY id DESC LIMIT 1`,
      deviceId,
      slot,
    );
    const isSame =
      last?.state === state &&
      last.version === version &&
      last.function === fn &&
      last.platform === platform &&
      last.sha256 === sha256;
    if (isSame) continue;
    db.run(
      `INSERT INTO modules (device_id, slot, state, version, function, platform, sha256, seen_at, attempt_id)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      deviceId,
      slot,
      state,
      version,
      fn,
      platform,
      sha256,
      at,
      attemptId,
    );
  }
}

/** The newest flashing of a device, if it has not ended, or has ended with new system parts. */
export function openFlash(db: Db, deviceId: DeviceId): OpenFlash | null {
  const row = db.get<{ id: number; wanted: string; endedAt: number | null; endedAs: string | null }>(
    `SELECT id, wanted, ended_at AS endedAt, ended_as AS endedAs FROM flashings
      WHERE device_id = ? ORDER BY id DESC LIMIT 1`,
    deviceId,
  );
  if (!row || (row.endedAt !== null && row.endedAs === null)) return null;
  return { flashId: row.id, wanted: readWanted(row.wanted), endedAs: row.endedAs };
}

export function beginFlash(db: Db, { deviceId, attemptId, wanted, at }: NewFlash): { flashId: number } {
  const text = JSON.stringify(
    Object.fromEntries(wanted.map(({ slot, version, sha256 }) => [slot, { version, sha256 }])),
  );
  const open = db.get<{ id: number; wanted: string }>(
    'SELECT id, wanted FROM flashings WHERE device_id = ? AND ended_at IS NULL',
    deviceId,
  );
  if (open?.wanted === text) return { flashId: open.id };
  if (open) db.change('UPDATE flashings SET ended_at = ? WHERE id = ?', at, open.id);
  const { id } = db.run(
    'INSERT INTO flashings (device_id, attempt_id, begun_at, wanted) VALUES (?, ?, ?, ?)',
    deviceId,
    attemptId,
    at,
    text,
  );
  return { flashId: id };
}

export function endFlash(db: Db, { flashId, attemptId, endedAs, modules, at }: EndedFlash): void {
  const row = db.get<{ deviceId: DeviceId }>('SELECT device_id AS deviceId FROM flashings WHERE id = ?', flashId);
  if (!row) throw new Error(`there is no flashing ${flashId}`);
  db.change(
    `UPDATE flashings SET state = 'whole', ended_at = ?, ended_as = ? WHERE id = ? AND ended_at IS NULL`,
    at,
    endedAs,
    flashId,
  );
  noteModules(db, { deviceId: row.deviceId, attemptId, modules, at });
}

/** By slot, as `beginFlash` has written it. */
export function readWanted(text: string): WantedRecord[] {
  const bySlot = JSON.parse(text) as Record<string, { version: number; sha256: string }>;
  return Object.entries(bySlot).map(([slot, { version, sha256 }]) => ({ slot, version, sha256 }));
}
