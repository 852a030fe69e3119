import { parseDeviceId } from '../core/device-id.ts';
import { shown, type Problems } from './problems.ts';
import type { CellPosition } from './records.ts';

const KNOWN = ['device_id', 'port', 'name', 'product_id'] as const;
type Known = (typeof KNOWN)[number];

/** Which cell of a row is what: indices from 0. */
export interface Columns {
  readonly count: number;
  /** A known column that isn't there is absent. */
  readonly known: Readonly<Partial<Record<Known, number>>>;
  readonly extra: readonly { readonly name: string; readonly index: number }[];
}

/** Reads the header, in which the names of known columns may have any case. Reports what is wrong with it. */
export function readHeader(cells: readonly string[], at: readonly CellPosition[], problems: Problems): Columns {
  const known: Partial<Record<Known, number>> = {};
  const extra: { name: string; index: number }[] = [];
  const seen = new Map<string, number>();
  const complain = (index: number, message: string): void => {
    const { line, column } = at[index] ?? { line: 1, column: 1 };
    problems.add(line, column, message);
  };

  cells.forEach((cell, index) => {
    const name = cell.trim();
    const folded = name.toLowerCase();
    const first = seen.get(folded);
    if (name === '') complain(index, `column ${index + 1} of the header has no name`);
    else if (first !== undefined) complain(index, `column ${shown(name)} is there twice: ${first} and ${index + 1}`);
    else {
      seen.set(folded, index + 1);
      const match = KNOWN.find(candidate => candidate === folded);
      if (match) known[match] = index;
      else extra.push({ name, index });
    }
  });

  if (known.device_id === undefined) complain(0, withoutDeviceId(cells));
  return { count: cells.length, known, extra };
}

function withoutDeviceId(cells: readonly string[]): string {
  if (cells.some(cell => parseDeviceId(cell))) {
    return 'the header is missing: the first line holds a device ID; put a line with the names of the columns before it';
  }
  const missing = 'the header has no column device_id';
  const [only = ''] = cells;
  const separator = cells.length === 1 ? /[;\t|]/.exec(only)?.[0] : undefined;
  if (separator !== undefined) return `${missing}: cells are separated by commas here, not by ${shown(separator)}`;
  const alike = cells.find(cell => /^(device|photon|core)?[\s_-]*id$/i.test(cell.trim()));
  return alike === undefined ? missing : `${missing}: is it ${shown(alike.trim())}?`;
}
