import { existsSync } from 'node:fs';

/** Whether there is a database at all, for commands that must not make one. */
export function databaseExists(path: string): boolean {
  return existsSync(path);
}
