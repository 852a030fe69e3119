import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The built program, from wherever this file was compiled to. */
export const CLI = createRequire(import.meta.url).resolve('#src/cli.ts');

/** A file of the project, by its path in it. */
export function projectFile(path: string): string {
  return join(dirname(dirname(CLI)), path);
}
