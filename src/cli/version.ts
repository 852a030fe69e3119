import { readFileSync } from 'node:fs';

/** This program's version, as its package has it. */
export function readVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return version;
}
