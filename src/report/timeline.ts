import { printable } from '../core/printable.ts';
import { bold } from './terminal.ts';

/** A line of a device's life. */
export interface Moment {
  readonly at: string;
  readonly what: string;
  readonly run: number | null;
  readonly by: string | null;
  readonly fingerprint: string | null;
  /** A code, a reason, or both. */
  readonly why: string | null;
}

/** One line a moment, in columns; a table's library would take seconds for some hundreds of them. */
export function timeline(moments: readonly Moment[]): string {
  const rows = moments.map(({ at, what, run, by, fingerprint, why }) => [
    at,
    printable(what, 60),
    run === null ? '-' : String(run),
    by === null ? '-' : printable(by, 40),
    fingerprint === null ? '-' : printable(fingerprint.slice(0, 16), 16),
    why === null ? '' : printable(why, 120),
  ]);
  const widths = HEAD.map((name, column) => Math.max(name.length, ...rows.map(row => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [bold(line(HEAD)), ...rows.map(line)].join('\n');
}

const HEAD = ['TIME', 'EVENT', 'RUN', 'BY', 'KEY', 'WHY'] as const;
