import { stationThreads } from '../core/threads.ts';

/** Commands that open the record, unless something is wrong before. */
const OPENS_RECORD = new Set(['run', 'replay', 'restore', 'status', 'history', 'outbox']);

/**
 * Starts the thread that a command will ask for, so that it loads beside the command itself: it takes as long as half of that.
 * @param argv as `main` parses it; what begins with an option starts later
 */
export function startEarly(argv: readonly string[]): void {
  const [name = ''] = argv;
  if (['--help', '-h', '--plan'].some(word => argv.includes(word))) return;
  if (OPENS_RECORD.has(name)) stationThreads.startEarly();
}
