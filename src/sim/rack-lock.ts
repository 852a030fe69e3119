import { open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../core/system-code.ts';

/**
 * Keeps two processes of one machine off a folder, where no lock of the kernel's is to be had. Each puts down a file that
 * is named after its PID and the moment of its start, and then looks for such files of processes that live: of two, the
 * later one always sees the earlier, so at most one goes on (two that begin at the very same moment may both stand back).
 * The file of a dead process holds nobody up, and whoever comes next removes it. No file is ever taken over, so nothing
 * can be taken from the wrong process. A PID that was given to another program since is told by the moment of the start.
 */
const LOCK = /^rack-([1-9]\d{0,8})-(\d{1,15})\.lock$/;

export type FolderLock =
  | { readonly taken: true; readonly release: () => Promise<void> }
  | { readonly taken: false; readonly holder: number; readonly file: string };

export function isLock(name: string): boolean {
  return LOCK.test(name);
}

/** @throws what the file system throws where the folder can't be written */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const own = `rack-${process.pid}-${(await startOf(process.pid)) ?? 0}.lock`;
  const path = join(folder, own);
  try {
    await (await open(path, 'wx', 0o600)).close();
  } catch (cause) {
    if (systemCode(cause) !== 'EEXIST') throw cause;
    return { taken: false, holder: process.pid, file: own };
  }
  let held = true;
  const release = async (): Promise<void> => {
    if (!held) return;
    held = false;
    // One that can't be removed is soon that of a dead process.
    await rm(path, { force: true }).catch(() => undefined);
  };
  try {
    for (const file of await readdir(folder)) {
      const [, pid, start] = LOCK.exec(file) ?? [];
      if (pid === undefined || file === own) continue;
      if (await lives(Number(pid), Number(start))) {
        await release();
        return { taken: false, holder: Number(pid), file };
      }
      await rm(join(folder, file), { force: true });
    }
  } catch (thrown) {
    await release();
    throw thrown;
  }
  return { taken: true, release };
}

async function lives(pid: number, start: number): Promise<boolean> {
  const now = await startOf(pid);
  if (now === null) return false;
  return now === start || now === 0 || start === 0;
}

/** When a process began, in clock ticks since boot (proc(5)); 0 where the system does not say; null: it is dead. */
async function startOf(pid: number): Promise<number | null> {
  try {
    process.kill(pid, 0);
  } catch (cause) {
    if (systemCode(cause) === 'ESRCH') return null; // anything else: it lives, and is somebody else's
  }
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return 0; // there is no /proc here, or it hides what belongs to others
  }
  // The name of the program may hold anything, blanks and brackets too: what follows its last bracket are fields 3 to 52.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return null; // dead, and not yet buried by its parent
  return Number(fields[19]) || 0;
}
