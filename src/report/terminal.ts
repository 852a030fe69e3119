import picocolors from 'picocolors';
import type { Outcome } from '../core/outcomes.ts';

/*
 * The rules of the terminal: results go to stdout, talk to stderr. The live view is drawn on stderr, and only where both
 * are terminals; otherwise there are plain lines. Colour where stdout is a terminal and NO_COLOR is not set.
 */

/** The library alone would colour what a CI machine writes to a file as well. */
const isColoured = (process.stdout.isTTY && !process.env['NO_COLOR']) || Boolean(process.env['FORCE_COLOR']);
const pc = picocolors.createColors(isColoured);

/** Where a command's words go. `write` appends a newline. */
export interface Output {
  /** A result: stdout. */
  result(line: string): void;
  /** Talk: stderr. */
  talk(line: string): void;
}

const MARKS: Readonly<Record<Outcome, string>> = {
  pass: '✔',
  fail: '✘',
  error: '!',
  refused: '⊘',
  aborted: '-',
  skipped: '»',
  unseen: '?',
};

export function markOf(outcome: Outcome): string {
  return MARKS[outcome];
}

export function colourOf(outcome: Outcome): (text: string) => string {
  switch (outcome) {
    case 'pass':
      return pc.green;
    case 'fail':
    case 'refused':
      return pc.red;
    case 'error':
      return pc.magenta;
    case 'aborted':
    case 'unseen':
      return pc.yellow;
    case 'skipped':
      return pc.dim;
  }
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

export const dim = pc.dim;
export const bold = pc.bold;
