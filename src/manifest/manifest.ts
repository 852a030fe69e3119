import type { DeviceId } from '../core/device-id.ts';
import type { UsbPath } from '../core/usb-path.ts';

/** One line of the manifest that names a device. */
export interface ManifestRow {
  /** The line of the file on which the row begins, 1-based. */
  readonly line: number;
  readonly deviceId: DeviceId;
  /** Where the device is said to hang; null: anywhere. */
  readonly port: UsbPath | null;
  readonly name: string | null;
  /** A product's number or slug, as the cloud takes it in `product_id`; null: not a product's device. */
  readonly productId: string | null;
  /** Every other column under its own name, as it stands in the file. It has no prototype: `__proto__` is a name. */
  readonly extra: Readonly<Record<string, string>>;
}

export interface Manifest {
  /** The file's real path: the manifest's name in the record. */
  readonly path: string;
  /** Of the bytes that were read, lower-case hex. */
  readonly sha256: string;
  /** At least one, in the order of the file; no ID and no port is there twice. */
  readonly rows: readonly ManifestRow[];
}

export interface ReadManifestOptions {
  /** Names of sockets, which may stand in the column `port` in place of a USB path. */
  readonly sockets?: Readonly<Record<string, UsbPath>>;
  /** Called for each good row as it is read. Later lines may still be bad, so nothing may be begun on it. */
  readonly onRow?: (row: ManifestRow) => void;
}
