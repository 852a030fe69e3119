import { closeSync, fsyncSync, openSync, unlinkSync, writeSync } from 'node:fs';

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

/** What was made in a folder is there after a power cut only once the folder is on disk too. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
