import type { Clock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import type { ControlSetup, UsbPort } from '../usb/port.ts';
import { openPatiently } from './open-patiently.ts';

/** What DFU needs to know of a device's descriptors. */
export interface DfuDescriptors {
  /** idVendor, idProduct and bcdDevice as the device itself tells them now. */
  readonly vendorId: number;
  readonly productId: number;
  readonly release: number;
  /** iSerialNumber as text, or null where there is none or it is not UTF-16. */
  readonly serialNumber: string | null;
  /** Alternate settings of interface 0, by number. */
  readonly alternates: readonly { readonly number: number; readonly name: string }[];
  /** DFU functional descriptor (DFU 1.1, section 4.1.3). */
  readonly transferSize: number;
  readonly dfuVersion: number;
}

const DESCRIPTOR_TIMEOUT_MS = 5000;
const GET_DESCRIPTOR = 6;
const TYPE = { DEVICE: 1, CONFIGURATION: 2, STRING: 3, INTERFACE: 4, DFU_FUNCTIONAL: 0x21 } as const;
const EN_US = 0x0409;
const MAX_CONFIGURATION_BYTES = 512;

/**
 * Reads the descriptors by GET_DESCRIPTOR, since an operating system's own view hides the functional descriptor.
 * Everything in them is hostile until parsed.
 * @throws Fault DESCRIPTOR_INVALID, or what the port throws
 */
export async function readDescriptors(port: UsbPort): Promise<DfuDescriptors> {
  const [{ vendorId, productId, release, serialIndex }, configuration] = await Promise.all([
    getDeviceDescriptor(port),
    getDescriptor(port, TYPE.CONFIGURATION, 0, 0, MAX_CONFIGURATION_BYTES),
  ]);
  if (configuration === null) throw invalid(port, 'the configuration descriptor');
  const parsed = parseConfiguration(configuration);
  if (!parsed) throw invalid(port, 'the configuration descriptor');
  const [serialNumber, ...names] = await Promise.all([
    serialOf(port, serialIndex),
    ...parsed.alternates.map(({ nameIndex }) => readString(port, nameIndex)),
  ]);
  const alternates = parsed.alternates.map(({ number }, nth) => ({ number, name: names[nth] ?? '' }));
  return {
    vendorId,
    productId,
    release,
    serialNumber,
    alternates,
    transferSize: parsed.transferSize,
    dfuVersion: parsed.dfuVersion,
  };
}

/**
 * The serial number of a device in whatever mode, as it tells it itself; the port is opened for it and closed again.
 * @returns null where there is none, or it is no text
 * @throws what the port throws
 */
export async function askSerialNumber(port: UsbPort, clock: Clock): Promise<string | null> {
  await openPatiently(port, clock, { claim: false });
  try {
    const { serialIndex } = await getDeviceDescriptor(port);
    return await readString(port, serialIndex);
  } finally {
    await port.close();
  }
}

/** The parts of a device descriptor (USB 2.0, table 9-8) that are looked at here. */
interface DeviceDescriptor {
  readonly vendorId: number;
  readonly productId: number;
  readonly release: number;
  /** iSerialNumber; 0: none. */
  readonly serialIndex: number;
}

/** @returns null where it is none */
export function parseDevice(bytes: Uint8Array): DeviceDescriptor | null {
  if (bytes.length < 18 || bytes[0] !== 18 || bytes[1] !== TYPE.DEVICE) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    vendorId: view.getUint16(8, true),
    productId: view.getUint16(10, true),
    release: view.getUint16(12, true),
    serialIndex: view.getUint8(16),
  };
}

interface Configuration {
  alternates: { number: number; nameIndex: number }[];
  transferSize: number;
  dfuVersion: number;
}

/** Walks the chain of descriptors (USB 2.0, 9.5). @returns null where it is cut, loops, or has no DFU interface. */
export function parseConfiguration(bytes: Uint8Array): Configuration | null {
  const alternates: Configuration['alternates'] = [];
  let functional: { transferSize: number; dfuVersion: number } | null = null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length;) {
    const length = view.getUint8(at);
    if (length < 2 || at + length > bytes.length) return null;
    const type = view.getUint8(at + 1);
    if (type === TYPE.INTERFACE && length >= 9 && view.getUint8(at + 2) === 0) {
      if (view.getUint8(at + 5) !== 0xfe || view.getUint8(at + 6) !== 0x01) return null; // not DFU
      if (alternates.length >= 16) return null;
      alternates.push({ number: view.getUint8(at + 3), nameIndex: view.getUint8(at + 8) });
    } else if (type === TYPE.DFU_FUNCTIONAL && length >= 9) {
      functional = { transferSize: view.getUint16(at + 5, true), dfuVersion: view.getUint16(at + 7, true) };
    }
    at += length;
  }
  return functional && alternates.length > 0 ? { alternates, ...functional } : null;
}

/** As the port knows it already, or as the device tells it. Of one without any the port is not asked: it may open it for that. */
async function serialOf(port: UsbPort, index: number): Promise<string | null> {
  const known = index === 0 ? null : port.serialNumber;
  return known === undefined ? readString(port, index) : known;
}

async function readString(port: UsbPort, index: number): Promise<string | null> {
  if (index === 0) return null;
  const bytes = await getDescriptor(port, TYPE.STRING, index, EN_US, 255);
  return bytes && decodeString(bytes);
}

/** A string descriptor (USB 2.0, 9.6.7) as text. @returns null where it is not proper UTF-16. */
export function decodeString(bytes: Uint8Array): string | null {
  const length = bytes[0] ?? 0;
  if (bytes[1] !== TYPE.STRING || length < 2 || length > bytes.length || length % 2 !== 0) return null;
  try {
    return new TextDecoder('utf-16le', { fatal: true }).decode(bytes.subarray(2, length));
  } catch {
    return null; // lone surrogates: it is no text
  }
}

async function getDeviceDescriptor(port: UsbPort): Promise<DeviceDescriptor> {
  const bytes = await getDescriptor(port, TYPE.DEVICE, 0, 0, 18);
  const device = bytes && parseDevice(bytes);
  if (!device) throw invalid(port, 'the device descriptor');
  return device;
}

async function getDescriptor(
  port: UsbPort,
  type: number,
  index: number,
  language: number,
  length: number,
): Promise<Uint8Array | null> {
  const setup: ControlSetup = {
    requestType: 'standard',
    recipient: 'device',
    request: GET_DESCRIPTOR,
    value: (type << 8) | index,
    index: language,
  };
  const answer = await port.controlTransferIn(setup, length, DESCRIPTOR_TIMEOUT_MS);
  return answer.status === 'ok' ? answer.data : null;
}

function invalid(port: UsbPort, what: string): Fault {
  return new Fault('DESCRIPTOR_INVALID', `${what} makes no sense`, { facts: { path: port.path } });
}
