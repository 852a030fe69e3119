import { setTimeout as sleep } from 'node:timers/promises';

/** Emulation is slow. */
const PATIENCE_MS = 120_000;
const LOOK_EVERY_MS = 50;

/** Waits for a condition; a deadline that passes is an error that names it. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${patienceMs / 1000} s in vain for ${what}`);
    await sleep(LOOK_EVERY_MS);
  }
}
