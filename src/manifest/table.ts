import { parse } from 'csv-parse/sync';
import { readHeader, type Columns } from './header.ts';
import type { Line } from './lines.ts';
import type { ManifestRow, ReadManifestOptions } from './manifest.ts';
import type { Problems } from './problems.ts';
import { RecordAssembler, cellPositions, type CsvRecord } from './records.ts';
import { RowReader } from './rows.ts';

/** Lines in, rows out: holds the header once it has come. */
export class Table {
  readonly rows: ManifestRow[] = [];
  readonly #options: ReadManifestOptions;
  readonly #problems: Problems;
  readonly #assembler: RecordAssembler;
  #reader: RowReader | null = null;
  /** The first record that was met, readable or not. */
  #headerLine = 0;
  #recordsAfterHeader = 0;

  constructor(options: ReadManifestOptions, problems: Problems) {
    this.#options = options;
    this.#problems = problems;
    this.#assembler = new RecordAssembler(problems);
  }

  push(lines: readonly Line[]): void {
    this.#take(lines.flatMap(line => this.#assembler.push(line)));
  }

  /** No more lines will come. */
  end(): void {
    this.#take(this.#assembler.end());
    if (this.#headerLine === 0) {
      this.#problems.add(1, 1, 'the file is empty: it needs a header with the column device_id, and a row a device');
    } else if (this.#recordsAfterHeader === 0) {
      this.#problems.add(this.#headerLine, 1, 'the file has a first line and nothing after it: no device is named');
    }
  }

  #take(records: readonly CsvRecord[]): void {
    const whole = records.filter(record => !record.broken);
    const cells = cellsOf(whole);
    let next = 0;
    for (const record of records) {
      const own = record.broken ? null : (cells[next++] ?? []);
      if (this.#headerLine === 0) {
        this.#headerLine = record.line;
        if (own) this.#reader = this.#readerFor(readHeader(own, cellPositions(record), this.#problems));
        continue;
      }
      this.#recordsAfterHeader += 1;
      const row = own && this.#reader?.read(record, own); // under a header that can't be read, no cell has a meaning
      if (!row) continue;
      this.rows.push(row);
      this.#options.onRow?.(row);
    }
  }

  #readerFor(columns: Columns): RowReader {
    return new RowReader(columns, this.#options.sockets ?? {}, this.#problems);
  }
}

/** The cells of well-formed records, without the white space around them; a row for each record, in order. */
function cellsOf(records: readonly CsvRecord[]): string[][] {
  if (records.length === 0) return [];
  return parse(records.map(record => `${record.text}\n`).join(''), {
    record_delimiter: '\n',
    relax_column_count: true, // a row's length is checked where its line is known
    trim: true,
  });
}
