import { Fault } from '../core/errors.ts';
import type { DeviceId } from '../core/device-id.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import type { Evidence } from '../session/identify-port.ts';

/** The rows of a run, by what they can be found by. */
export interface RowIndex {
  readonly byId: ReadonlyMap<DeviceId, ManifestRow>;
  readonly byPort: ReadonlyMap<UsbPath, ManifestRow>;
}

/**
 * `row`: exactly this one. `conflict`: the row that it would be, and why it is not touched. `stranger`: in no row, left
 * alone; `fault` where it can't even be told who it is.
 */
export type Match =
  | { readonly kind: 'row'; readonly row: ManifestRow; readonly identity: 'serial' | 'dct' | 'learned' | 'manifest' }
  | {
      readonly kind: 'conflict';
      readonly row: ManifestRow;
      /** What the device says of itself. */
      readonly deviceId: DeviceId | null;
      readonly fault: Fault;
    }
  | { readonly kind: 'stranger'; readonly deviceId: DeviceId | null; readonly fault: Fault | null };

export function indexRows(rows: readonly ManifestRow[]): RowIndex {
  const byId = new Map(rows.map(row => [row.deviceId, row]));
  const byPort = new Map(rows.flatMap(row => (row.port ? [[row.port, row] as const] : [])));
  return { byId, byPort };
}

/**
 * Path, serial and DCT together give exactly one row, or the device is left alone. Never a guess.
 * @param learned what the device at this path said of itself in normal mode, just before it was switched
 */
export function matchRow(path: UsbPath, evidence: Evidence, rows: RowIndex, learned: DeviceId | null = null): Match {
  const id = evidence.serialId ?? evidence.dctId ?? learned;
  const here = rows.byPort.get(path);
  if (id !== null) {
    const row = rows.byId.get(id);
    if (row?.port && row.port !== path) {
      return conflict(row, id, path, `the manifest expects it at ${row.port}, and it hangs at ${path}`);
    }
    if (here && here.deviceId !== id) {
      return conflict(here, id, path, `the manifest names the socket ${path}, and the device there is ${id}`);
    }
    if (!row) return { kind: 'stranger', deviceId: id, fault: null };
    return {
      kind: 'row',
      row,
      identity: evidence.serialId !== null ? 'serial' : evidence.dctId !== null ? 'dct' : 'learned',
    };
  }
  if (evidence.dct === 'zeros' && !here) {
    const fault = new Fault('DCT_UNREADABLE', 'the DCT reads as zeros', { facts: { path } });
    return { kind: 'stranger', deviceId: null, fault };
  }
  // One whose DCT reads as zeros too: its session says so, once it has kept what can be saved.
  if (here) return { kind: 'row', row: here, identity: 'manifest' };
  const fault = new Fault('IDENTITY_UNKNOWN', 'neither its serial nor its DCT tells its ID', { facts: { path } });
  return { kind: 'stranger', deviceId: null, fault };
}

function conflict(row: ManifestRow, deviceId: DeviceId, path: UsbPath, message: string): Match {
  return { kind: 'conflict', row, deviceId, fault: new Fault('IDENTITY_MISMATCH', message, { facts: { path } }) };
}
