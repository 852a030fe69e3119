import { chmodSync, closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { Fault } from '../core/errors.ts';
import { asFault } from './database.ts';
import { systemCode } from '../core/system-code.ts';

/**
 * Takes a lock that the kernel frees when its holder dies: an open exclusive transaction on a small database.
 * @returns how to let it go
 * @throws Fault STATION_BUSY where another process holds it
 */
export function takeLock(path: string): () => void {
  let lock: Database.Database | undefined;
  try {
    closeSync(openSync(path, 'a', 0o600));
    chmodSync(path, 0o600);
    lock = new Database(path, { timeout: 0 });
    lock.pragma('journal_mode = DELETE');
    lock.exec('BEGIN EXCLUSIVE');
    const held = lock;
    return () => held.close();
  } catch (error) {
    lock?.close();
    if (systemCode(error).startsWith('SQLITE_BUSY')) {
      throw new Fault('STATION_BUSY', 'another photon-fleet process works on this station', { cause: error });
    }
    throw systemCode(error).startsWith('SQLITE_') || error instanceof Fault
      ? asFault(error, path)
      : new Fault('DB_UNREADABLE', `the lock ${path} can't be made (${systemCode(error)})`, { cause: error });
  }
}
