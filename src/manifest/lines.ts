import { isUtf8 } from 'node:buffer';
import type { Problems } from './problems.ts';

/** One physical line of the file. */
export interface Line {
  /** 1-based. */
  readonly number: number;
  readonly text: string;
  /** What ended it; nothing at the end of the file. */
  readonly terminator: '' | '\n' | '\r\n' | '\r';
  /** It was too long to be kept: the text is empty, and nothing may be concluded from it. */
  readonly dropped: boolean;
}

/** Also the bound of one record (records.ts): what a manifest needs is a hundred times shorter. */
export const MAX_LINE_BYTES = 65_536;

const LF = 0x0a;
const CR = 0x0d;

/**
 * Cuts bytes into lines, at LF, CR LF or CR, before they are decoded: no byte of a longer UTF-8 sequence is any of
 * those two, so a chunk may end anywhere. Reports what is no text: invalid UTF-8, NUL bytes, lines without an end.
 */
export class LineSplitter {
  readonly #problems: Problems;
  #rest: Buffer = Buffer.alloc(0);
  #next = 1;
  #discarding = false;

  constructor(problems: Problems) {
    this.#problems = problems;
  }

  /** @param last no more bytes will come: what is left is the last line. */
  push(chunk: Buffer, last = false): Line[] {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    const lines: Line[] = [];
    let start = 0;
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = bytes[at];
      if (byte !== LF && byte !== CR) continue;
      if (byte === CR && at + 1 === bytes.length && !last) break; // its LF may be in the next chunk
      const terminator = byte === LF ? '\n' : bytes[at + 1] === LF ? '\r\n' : '\r';
      lines.push(this.#line(bytes.subarray(start, at), terminator));
      at += terminator.length - 1;
      start = at + 1;
    }
    this.#rest = bytes.subarray(start);
    if (last && this.#rest.length > 0) lines.push(this.#line(this.#rest, ''));
    else if (this.#rest.length > MAX_LINE_BYTES) {
      this.#discarding = true; // told when its end is seen
      this.#rest = this.#rest.at(-1) === CR ? this.#rest.subarray(-1) : Buffer.alloc(0);
    }
    return lines;
  }

  #line(bytes: Buffer, terminator: Line['terminator']): Line {
    const number = this.#next;
    this.#next += 1;
    const dropped = this.#discarding || bytes.length > MAX_LINE_BYTES;
    this.#discarding = false;
    if (dropped) {
      this.#problems.add(number, 1, `the line is longer than ${MAX_LINE_BYTES} bytes`);
      return { number, text: '', terminator, dropped };
    }
    const decoded = bytes.toString('utf8');
    const text = number === 1 && decoded.startsWith('\ufeff') ? decoded.slice(1) : decoded; // a byte order mark
    if (!isUtf8(bytes)) {
      this.#problems.add(number, columnOf(text, invalidAt(bytes, text)), 'invalid UTF-8: save the file as UTF-8');
    }
    const nul = text.indexOf('\0');
    if (nul >= 0) this.#problems.add(number, columnOf(text, nul), 'a NUL byte: this is no text');
    return { number, text, terminator, dropped };
  }
}

/** 1-based column, in characters, of an index into a line's text. */
export function columnOf(text: string, index: number): number {
  let column = 1;
  for (let at = 0; at < index && at < text.length; column += 1) at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
  return column;
}

/** Index in `text` of the first replacement character that the decoder made, and that was not in the file. */
function invalidAt(bytes: Buffer, text: string): number {
  const marked = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf && !text.startsWith('\ufeff');
  let offset = marked ? 3 : 0;
  for (let at = 0; at < text.length;) {
    const char = String.fromCodePoint(text.codePointAt(at) ?? 0);
    const size = Buffer.byteLength(char);
    if (char === '\ufffd' && bytes.toString('latin1', offset, offset + 3) !== '\xef\xbf\xbd') return at;
    offset += size;
    at += char.length;
  }
  return 0;
}
