import { recordThreads } from '../store/record-threads.ts';
import { sealingThreads } from '../vault/sealing-threads.ts';

/** Commands that open the record, and those of them that open the vault, unless something is wrong before. */
const OPENS_RECORD = new Set(['run', 'replay', 'restore', 'status', 'history', 'outbox']);
const OPENS_VAULT = new Set(['run', 'restore']);

/**
 * Starts the threads that a command will ask for, so that they load beside the command itself: each takes as long as half of
 * it.
 * @param argv as `main` parses it; what begins with an option starts later
 */
export function startEarly(argv: readonly string[]): void {
  const [name = ''] = argv;
  if (['--help', '-h', '--plan'].some(word => argv.includes(word))) return;
  if (OPENS_RECORD.has(name)) recordThreads.startEarly();
  if (OPENS_VAULT.has(name)) sealingThreads.startEarly();
}
