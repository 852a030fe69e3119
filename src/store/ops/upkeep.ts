import { closeSync, openSync, unlinkSync } from 'node:fs';
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
  try {
    db.raw.prepare('VACUUM INTO ?').run(file);
  } catch (error) {
    unlinkSync(file); // half a copy is none
    throw error;
  }
}
