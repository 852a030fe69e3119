import { randomBytes } from 'node:crypto';
import { closeSync, openSync, renameSync, rmSync } from 'node:fs';
import { Fault } from '../../core/errors.ts';
import type { Db } from '../db.ts';
import { systemCode } from '../../core/system-code.ts';
import { perform } from '../perform.ts';

/**
 * A whole copy of the record at one moment, made beside running work; the file must not be there yet. Key pairs that are
 * prepared are not for the copy: whoever goes back to it would give other devices keys that are used already.
 */
export function backupTo(db: Db, file: string): void {
  const half = `${file}.${randomBytes(6).toString('hex')}.new`;
  makeFile(file); // nobody else's from here on
  try {
    makeFile(half); // VACUUM INTO takes an empty file, and keeps its mode
    db.raw.prepare('VACUUM INTO ?').run(half);
    const copy = db.openCopy(half);
    try {
      copy.raw.transaction(() => perform(copy, 'discardPreparedKeys', { at: Date.now() }))();
    } finally {
      copy.raw.close();
    }
    renameSync(half, file);
  } catch (error) {
    for (const name of [half, file]) rmSync(name, { force: true }); // half a copy is none
    throw error;
  }
}

function makeFile(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (cause) {
    throw new Fault('DB_UNREADABLE', `the copy ${file} can't be made (${systemCode(cause)})`, {
      hint: 'name a file that is not there yet, in a folder that you may write to',
      cause,
    });
  }
}
