import { closeSync, openSync } from 'node:fs';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { systemCode } from '../../core/system-code.ts';

/** A whole copy of the record at one moment, made beside running work; the file must not be there yet. */
export function backupTo(db: Db, file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600)); // VACUUM INTO takes an empty file, and keeps its mode
  } catch (cause) {
    throw new Fault('DB_UNREADABLE', `the copy ${file} can't be made (${systemCode(cause)})`, {
      hint: 'name a file that is not there yet, in a folder that you may write to',
      cause,
    });
  }
  db.raw.prepare('VACUUM INTO ?').run(file);
}

/** What must be true of every record, as queries that must give no rows. */
const INVARIANTS: readonly (readonly [string, string])[] = [
  [
    'an active key without a verification',
    `SELECT device_id AS what FROM keys WHERE state = 'active' AND verified_at IS NULL`,
  ],
  [
    'a pending send of a key that is not on its device',
    `SELECT sends.device_id AS what FROM sends JOIN keys ON keys.id = sends.key_id
      WHERE sends.state = 'pending' AND keys.state <> 'active'`,
  ],
  [
    'a made key without its sealed private half',
    `SELECT device_id AS what FROM keys WHERE origin = 'made' AND (sealed_private IS NULL OR length(sealed_private) = 0)`,
  ],
  ['a key without a send', `SELECT device_id AS what FROM keys WHERE id NOT IN (SELECT key_id FROM sends)`],
  ['an empty backup', `SELECT device_id AS what FROM backups WHERE length(sealed) = 0 OR bytes = 0`],
  [
    'a row that passed without an attempt',
    `SELECT device_id AS what FROM rows WHERE outcome = 'pass' AND NOT EXISTS (
       SELECT 1 FROM attempts WHERE attempts.run_id = rows.run_id AND attempts.device_id = rows.device_id)`,
  ],
];

/** @returns every problem in words; none where the record is whole */
export function checkRecord(db: Db): string[] {
  const problems: string[] = [];
  const integrity = db.all<{ integrity_check: string }>('PRAGMA integrity_check');
  for (const { integrity_check: line } of integrity) if (line !== 'ok') problems.push(`SQLite: ${line}`);
  for (const row of db.all<{ table: string; rowid: number }>('PRAGMA foreign_key_check')) {
    problems.push(`${row.table} ${row.rowid} points at nothing`);
  }
  for (const [name, sql] of INVARIANTS) {
    for (const { what } of db.all<{ what: string }>(sql)) problems.push(`${name}: ${what}`);
  }
  return problems;
}
