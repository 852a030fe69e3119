import { lstatSync, mkdirSync } from 'node:fs';
import { userInfo, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fault } from '../core/errors.ts';
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
