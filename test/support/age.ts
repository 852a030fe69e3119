import { spawnSync } from 'node:child_process';

/** Debian's own `age`: what it opens does not depend on this program. */
export function age(args: readonly string[], input: Uint8Array | string = ''): Buffer | null {
  const { status, stdout, error } = spawnSync('age', args, { input });
  if (error) throw error;
  return status === 0 ? stdout : null;
}

/** A fresh identity by `age-keygen`, in a file. @returns its recipient */
export function ageKeygen(file: string): string {
  const made = spawnSync('age-keygen', ['-o', file]);
  if (made.status !== 0) throw new Error(`age-keygen: ${String(made.stderr)}`);
  return spawnSync('age-keygen', ['-y', file]).stdout.toString().trim();
}
