import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { parseUsbPath, type UsbPath } from '../core/usb-path.ts';
import type { Columns } from './header.ts';
import type { ManifestRow } from './manifest.ts';
import { shown, type Problems } from './problems.ts';
import { cellPositions, type CsvRecord } from './records.ts';

/** Particle names a product by its number or by its slug (`rack-monitor-v2`). */
const PRODUCT_ID = /^(\d{1,10}|[a-z0-9][a-z0-9_-]{0,99})$/i;

/** Turns the cells of a record into a row, and remembers which IDs and ports it has seen. */
export class RowReader {
  readonly #columns: Columns;
  readonly #sockets: Readonly<Record<string, UsbPath>>;
  readonly #problems: Problems;
  readonly #lineOfId = new Map<DeviceId, number>();
  readonly #lineOfPort = new Map<UsbPath, number>();

  constructor(columns: Columns, sockets: Readonly<Record<string, UsbPath>>, problems: Problems) {
    this.#columns = columns;
    this.#sockets = sockets;
    this.#problems = problems;
  }

  /** @returns the row, or null where something is wrong with it; everything that is wrong has been reported then. */
  read(record: CsvRecord, cells: readonly string[]): ManifestRow | null {
    const before = this.#problems.total;
    const complain = (index: number, message: string): void => {
      const { line, column } = cellPositions(record)[index] ?? { line: record.line, column: 1 };
      this.#problems.add(line, column, message);
    };
    const { count, known, extra } = this.#columns;
    if (cells.length < count) complain(cells.length - 1, `the row is short: ${cells.length} of ${count} cells`);
    if (cells.length > count) complain(count, `the row is long: ${cells.length} cells, the header has ${count}`);

    const deviceId = this.#deviceId(record.line, cells, complain);
    const port = this.#port(record.line, cells, complain);
    const productId = textAt(cells, known.product_id);
    if (productId !== null && known.product_id !== undefined && !PRODUCT_ID.test(productId)) {
      complain(known.product_id, `${shown(productId)} is no product: give its number or its slug`);
    }
    if (deviceId === null || this.#problems.total > before) return null;

    return {
      line: record.line,
      deviceId,
      port,
      name: textAt(cells, known.name),
      productId,
      extra: restOf(cells, extra),
    };
  }

  #deviceId(line: number, cells: readonly string[], complain: Complain): DeviceId | null {
    const index = this.#columns.known.device_id;
    const cell = index === undefined ? undefined : cells[index];
    if (index === undefined || cell === undefined) return null; // the header, or the row's length, was reported
    const id = parseDeviceId(cell);
    const first = id === null ? undefined : this.#lineOfId.get(id);
    if (cell.trim() === '') complain(index, 'the device ID is empty');
    else if (id === null) complain(index, `${shown(cell)} is no device ID: ${whyNoId(cell.trim())}`);
    else if (first !== undefined) complain(index, `device ID ${id} is there twice: first on line ${first}`);
    else this.#lineOfId.set(id, line);
    return id;
  }

  #port(line: number, cells: readonly string[], complain: Complain): UsbPath | null {
    const index = this.#columns.known.port;
    const cell = textAt(cells, index);
    if (index === undefined || cell === null) return null;
    const named = Object.hasOwn(this.#sockets, cell) ? this.#sockets[cell] : undefined;
    const port = parseUsbPath(cell) ?? named ?? null;
    const first = port === null ? undefined : this.#lineOfPort.get(port);
    if (port === null) {
      complain(index, `${shown(cell)} is no port: neither a USB path such as 3-1.4 nor a socket of the configuration`);
    } else if (first !== undefined) {
      const meant = port === cell ? port : `${shown(cell)} (${port})`;
      complain(index, `port ${meant} is there twice: first on line ${first}`);
    } else this.#lineOfPort.set(port, line);
    return port;
  }
}

const NOTHING: ManifestRow['extra'] = Object.freeze(Object.create(null) as Record<string, string>);

/** An object of its own for each row weighs more than the row. */
function restOf(cells: readonly string[], extra: Columns['extra']): ManifestRow['extra'] {
  if (extra.length === 0) return NOTHING;
  const rest = Object.create(null) as Record<string, string>;
  for (const { name, index } of extra) rest[name] = cells[index] ?? '';
  return rest;
}

type Complain = (index: number, message: string) => void;

/** The cell without white space around it; null where it is empty or the column isn't there. */
function textAt(cells: readonly string[], index: number | undefined): string | null {
  const text = index === undefined ? '' : (cells[index]?.trim() ?? '');
  return text === '' ? null : text;
}

function whyNoId(text: string): string {
  if (/^\d(\.\d+)?e\+?\d+$/i.test(text))
    return 'a spreadsheet made a number of it; make the column text and paste anew';
  const chars = Array.from(text).length;
  const hex = /^[0-9a-f]*$/i.test(text);
  if (hex) return `24 hexadecimal digits are needed, it has ${chars}`;
  return chars === 24 ? 'not all of it are hexadecimal digits' : '24 hexadecimal digits are needed';
}
