import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from './system-code.ts';

/** A new file, 0600, on disk when this returns; nothing of it is left where it can't be written. */
export function writeNewFile(path: string, content: string | Uint8Array): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    const bytes = Buffer.from(content);
    if (writeSync(fd, bytes) !== bytes.length) throw new Error('it was written in part only');
    fsyncSync(fd);
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    closeSync(fd);
  }
}

/**
 * A new file that has its name only once it is whole: 0600, on disk together with its folder.
 * @returns false where there is a file already, which is left as it is
 */
export function writeWholeFile(path: string, content: string | Uint8Array): boolean {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`;
  writeNewFile(temporary, content);
  try {
    linkSync(temporary, path); // never over another one
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  } finally {
    unlinkSync(temporary);
  }
  syncFolder(dirname(path));
  return true;
}

/** What was made in a folder is there after a power cut only once the folder is on disk too. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
