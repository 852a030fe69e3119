import type { Fault } from '../core/errors.ts';
import type { Output } from '../report/terminal.ts';

/** What a stream says when its reader or its terminal has gone. */
const READER_GONE: readonly (string | undefined)[] = ['EPIPE', 'EIO', 'EBADF', 'ENXIO', 'ERR_STREAM_DESTROYED'];

/**
 * Results to stdout, talk to stderr. A reader that went away (`| head`, a closed terminal) is no reason to leave devices
 * half done: what it would have read is lost, the work and its exit code are not.
 */
export function processOutput(): Output {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!READER_GONE.includes(error.code)) throw error;
    });
  }
  return {
    result: line => process.stdout.write(`${line}\n`),
    talk: line => process.stderr.write(`${line}\n`),
  };
}

/** A fault for the eye: what failed, with its code, the problems one by one, and what the hand should do. */
export function faultLines(fault: Fault, problems: readonly string[]): string[] {
  const lines = [`error: ${fault.message} [${fault.code}]`, ...problems.map(problem => `  ${problem}`)];
  lines.push(`hint: ${fault.hint}`);
  if (fault.code === 'BUG') {
    const cause = fault.cause instanceof Error ? fault.cause : fault;
    if (cause.stack) lines.push(cause.stack);
  }
  return lines;
}
