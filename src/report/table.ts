import Table from 'cli-table3';
import { printable } from '../core/printable.ts';
import { bold } from './terminal.ts';

/** A table without borders, as the eye and `awk` like it. Cells are made printable. */
export function table(head: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  const drawn = new Table({
    head: head.map(bold),
    chars: {
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
    },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  for (const row of rows) drawn.push(row.map(cell => (cell === null ? '-' : printable(String(cell), 120))));
  return drawn
    .toString()
    .split('\n')
    .map(line => line.trimEnd())
    .join('\n');
}
