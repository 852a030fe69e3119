import { chmodSync, closeSync, lstatSync, mkdirSync, openSync } from 'node:fs';
import { userInfo, tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { Fault } from '../core/errors.ts';
import { asFault } from './database.ts';
import { systemCode } from '../core/system-code.ts';

/**
 * Where the station's lock lies: the user's runtime folder, whichever database is used, since there is one bus.
 * @throws Fault DB_UNREADABLE where that folder is not ours alone
 */
export function stationLockPath(env: NodeJS.ProcessEnv): string {
  const runtime = env['XDG_RUNTIME_DIR'];
  const folder = runtime ? join(runtime, 'photon-fleet') : join(tmpdir(), `photon-fleet-${userInfo().uid}`);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new Fault('DB_UNREADABLE', `the folder ${folder} can't be made (${systemCode(cause)})`, {
      hint: 'set XDG_RUNTIME_DIR to a folder of your own',
      cause,
    });
  }
  checkFolder(folder);
  return join(folder, 'station.lock');
}

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

/** A folder in a place open to all is ours alone, or it is not used. */
function checkFolder(folder: string): void {
  const stat = lstatSync(folder);
  const uid = process.getuid?.();
  if (!stat.isDirectory() || (uid !== undefined && stat.uid !== uid)) {
    throw new Fault('DB_UNREADABLE', `the folder ${folder} belongs to somebody else`, {
      hint: 'set XDG_RUNTIME_DIR to a folder of your own',
    });
  }
}
