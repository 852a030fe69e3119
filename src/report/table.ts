import Table from 'cli-table3';
import { printable } from '../core/printable.ts';
import { bold } from './terminal.ts';

type Cells = readonly (string | number | null)[];

/** The library takes time with the square of the rows, so a long table is drawn in parts of equal columns. */
const ROWS_AT_ONCE = 200;

/** A table without borders, as the eye and `awk` like it. Cells are made printable. */
export function table(head: readonly string[], rows: readonly Cells[]): string {
  const shown = rows.map(row => row.map(cell => (cell === null ? '-' : printable(String(cell), 120))));
  const colWidths = head.map((name, column) =>
    shown.reduce((most, row) => Math.max(most, widthOf(row[column])), name.length),
  );
  const parts = [];
  for (let from = 0; from === 0 || from < shown.length; from += ROWS_AT_ONCE) {
    parts.push(part(from === 0 ? head.map(bold) : [], shown.slice(from, from + ROWS_AT_ONCE), colWidths));
  }
  return parts.join('\n');
}

function part(head: string[], rows: readonly string[][], colWidths: number[]): string {
  const drawn = new Table({
    head,
    colWidths,
    chars: NO_BORDERS,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  drawn.push(...rows);
  return drawn
    .toString()
    .split('\n')
    .map(line => line.trimEnd())
    .join('\n');
}

/** Cells of a terminal: letters beyond Latin may be two wide, and a little too much room is better than a cut name. */
function widthOf(text = ''): number {
  return Array.from(text).reduce((width, char) => width + (char > '\u02ff' ? 2 : 1), 0);
}

const NO_BORDERS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
} as const;
