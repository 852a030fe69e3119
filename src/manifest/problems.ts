import { Fault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';

/** Something wrong in the file. `line` and `column` are 1-based; columns count characters, not bytes. */
export interface Problem {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

const MAX_KEPT = 200_000; // a file that is no CSV at all has a problem a line, and may be as long as the disk
const MAX_PRINTED = 50;
const MAX_SHOWN_CHARS = 40;
export const MAX_PATH_CHARS = 4096;

/** MANIFEST_INVALID, with every problem of the file in the order of its lines. */
export class ManifestFault extends Fault {
  /** As the user wrote it. */
  readonly path: string;
  /** The first 200,000 of them. */
  readonly problems: readonly Problem[];
  readonly total: number;

  constructor(path: string, problems: Problems) {
    const name = printable(path, MAX_PATH_CHARS);
    super('MANIFEST_INVALID', `${name}: ${problems.total} problem${problems.total === 1 ? '' : 's'}`, {
      facts: { path: name, problems: problems.total },
    });
    this.name = 'ManifestFault';
    this.path = path;
    this.problems = problems.sorted();
    this.total = problems.total;
  }
}

/** Collects what is wrong, so that it can be told all at once. */
export class Problems {
  #total = 0;
  readonly #kept: Problem[] = [];

  get total(): number {
    return this.#total;
  }

  add(line: number, column: number, message: string): void {
    this.#total += 1;
    if (this.#kept.length < MAX_KEPT) this.#kept.push({ line, column, message });
  }

  sorted(): Problem[] {
    return this.#kept.toSorted((a, b) => a.line - b.line || a.column - b.column);
  }
}

/**
 * The problems for the eye, one a line, as editors and terminals understand them: `FILE:LINE:COLUMN: message`.
 * After the first 50 it says how many more there are.
 */
export function formatProblems(fault: ManifestFault, limit = MAX_PRINTED): string[] {
  const lines = fault.problems
    .slice(0, limit)
    .map(({ line, column, message }) => `${printable(fault.path, MAX_PATH_CHARS)}:${line}:${column}: ${message}`);
  if (fault.total > lines.length) lines.push(`and ${fault.total - lines.length} more`);
  return lines;
}

/** A cell in quotes, safe to print: cut at 40 characters, and what can't be seen is escaped. */
export function shown(cell: string): string {
  const chars = Array.from(cell.slice(0, MAX_SHOWN_CHARS * 2));
  const cut = chars.length > MAX_SHOWN_CHARS;
  return `"${printable(chars.slice(0, MAX_SHOWN_CHARS).join(''), Infinity)}${cut ? '…' : ''}"`;
}
