import { DESCRIPTOR } from './setup-packet.ts';

/** The parts of a device descriptor (USB 2.0, table 9-8) that are looked at here. */
export interface DeviceDescriptor {
  readonly vendorId: number;
  readonly productId: number;
  readonly release: number;
  /** iSerialNumber; 0: none. */
  readonly serialIndex: number;
}

/** @returns null where it is none */
export function decodeDeviceDescriptor(bytes: Uint8Array): DeviceDescriptor | null {
  const view = Buffer.from(bytes);
  if (view.length < 18 || view[0] !== 18 || view[1] !== DESCRIPTOR.device) return null;
  return {
    vendorId: view.readUInt16LE(8),
    productId: view.readUInt16LE(10),
    release: view.readUInt16LE(12),
    serialIndex: view.readUInt8(16),
  };
}

/** Text of a string descriptor (UTF-16LE, no terminator); null where it is none, is empty, or can't be decoded. */
export function decodeStringDescriptor(bytes: Uint8Array): string | null {
  const length = bytes[0] ?? 0;
  if (bytes[1] !== DESCRIPTOR.string || length < 4 || length % 2 !== 0 || length > bytes.length) return null;
  try {
    return new TextDecoder('utf-16le', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(2, length));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause; // a lone surrogate
    return null;
  }
}
