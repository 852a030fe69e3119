import { MAX_LINE_BYTES, columnOf, type Line } from './lines.ts';
import type { Problems } from './problems.ts';

/**
 * One record of the CSV: one line, or several where a quoted cell holds line ends. `broken`: it can't be read, which
 * has been reported; its text is of no use.
 */
export interface CsvRecord {
  readonly line: number;
  readonly text: string;
  readonly broken: boolean;
}

/** Where a cell begins in the file. */
export interface CellPosition {
  readonly line: number;
  readonly column: number;
}

/** RFC 4180 with white space around quotes: where in a cell the scan stands. */
type Mode = 'start' | 'plain' | 'quoted' | 'closed';

const QUOTE = 0x22;
const COMMA = 0x2c;

/**
 * Puts lines together to records, so that each keeps its place in the file and one broken quote costs one line: after
 * it the reading begins anew on the line that follows, where csv-parse would lose the rest of the file. What is handed
 * on is well formed; csv-parse reads the cells.
 */
export class RecordAssembler {
  readonly #problems: Problems;
  #pending: Line[] = [];
  #pendingChars = 0;
  #mode: Mode = 'start';
  /** Where the cell under scan begins. Its column is counted only where it has to be told. */
  #cell = { line: 1, text: '', at: 0 };

  constructor(problems: Problems) {
    this.#problems = problems;
  }

  push(line: Line): CsvRecord[] {
    const records: CsvRecord[] = [];
    const queue = [line];
    for (let next = queue.shift(); next; next = queue.shift()) {
      if (this.#pending.length === 0 && !next.dropped && next.text.trim() === '') continue; // blank lines are fine
      const trouble = this.#take(next);
      if (trouble !== null) queue.unshift(...this.#breakOff(records, trouble));
      else if (this.#mode !== 'quoted') records.push(this.#finish(false));
    }
    return records;
  }

  /** The file has ended: a quote that is still open stays open. */
  end(): CsvRecord[] {
    const records: CsvRecord[] = [];
    while (this.#pending.length > 0) {
      const again = this.#breakOff(records, 'the quote is not closed');
      for (const line of again) records.push(...this.push(line));
    }
    return records;
  }

  /** Scans one more line. @returns what is wrong with it, or null. */
  #take(line: Line): string | null {
    this.#pending.push(line);
    this.#pendingChars += line.text.length + line.terminator.length;
    if (line.dropped) return this.#pending.length === 1 ? '' : 'the quote is not closed';
    if (this.#pendingChars > MAX_LINE_BYTES) return `the quote is not closed within ${MAX_LINE_BYTES} characters`;
    if (this.#mode !== 'quoted') this.#mode = 'start';
    const { text } = line;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      switch (this.#mode) {
        case 'quoted':
          if (code !== QUOTE) break;
          if (text.charCodeAt(at + 1) === QUOTE) at += 1;
          else this.#mode = 'closed';
          break;
        case 'start':
          if (code === QUOTE) {
            this.#mode = 'quoted';
            this.#cell = { line: line.number, text, at };
          } else if (code !== COMMA && !isSpace(code)) this.#mode = 'plain';
          break;
        case 'plain':
          if (code === COMMA) this.#mode = 'start';
          else if (code === QUOTE) {
            this.#cell = { line: line.number, text, at };
            return 'a quote inside a cell that does not begin with one (write the cell as "…", and the quote twice)';
          }
          break;
        case 'closed':
          // Only ASCII here: csv-parse 7.0.3 stumbles over longer white space after a closing quote.
          if (code === COMMA) this.#mode = 'start';
          else if (code > 0x20 || !isSpace(code))
            return 'the quoted cell goes on after its closing quote, or its quote is not closed';
          break;
      }
    }
    return null;
  }

  /** Reports the record, drops its first line, and gives back the lines after it to be read anew. */
  #breakOff(records: CsvRecord[], trouble: string): Line[] {
    const { line, text, at } = this.#cell;
    if (trouble !== '') this.#problems.add(line, columnOf(text, at), trouble);
    const lines = this.#pending;
    records.push(this.#finish(true));
    // From the line after the one on which the bad cell began: the lines before it are whole.
    return lines.filter(({ number }) => number > Math.max(line, lines[0]?.number ?? 0));
  }

  #finish(broken: boolean): CsvRecord {
    const [first] = this.#pending;
    const last = this.#pending.length - 1;
    const text = this.#pending.map((line, index) => line.text + (index < last ? line.terminator : '')).join('');
    this.#pending = [];
    this.#pendingChars = 0;
    this.#mode = 'start';
    return { line: first?.number ?? 0, text: broken ? '' : text, broken };
  }
}

/** Where each cell of a well-formed record begins: at its first character that is no white space. */
export function cellPositions(record: CsvRecord): CellPosition[] {
  const positions: CellPosition[] = [];
  let quoted = false;
  let fresh = true; // at the beginning of a cell
  let { line } = record;
  let column = 1; // counted on the way: a line may have tens of thousands of cells
  for (let at = 0; at <= record.text.length; at += 1) {
    const code = record.text.charCodeAt(at); // NaN at the end
    const ends = at === record.text.length || (code === COMMA && !quoted);
    if (fresh && (ends || !isSpace(code))) {
      positions.push({ line, column });
      fresh = false;
    }
    if (ends) fresh = true;
    else if (code === QUOTE) quoted = !quoted;
    else if (code === 0x0a || (code === 0x0d && record.text.charCodeAt(at + 1) !== 0x0a)) {
      line += 1;
      column = 0;
    }
    if (code < 0xd800 || code > 0xdbff) column += 1; // with the second half of a pair
  }
  return positions;
}

/** The white space that `String.prototype.trim` and csv-parse take away. */
function isSpace(code: number): boolean {
  if (code <= 0x20) return code === 0x20 || (code >= 0x09 && code <= 0x0d);
  return code >= 0xa0 && /\s/.test(String.fromCharCode(code));
}
