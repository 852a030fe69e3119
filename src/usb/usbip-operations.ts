import { parseUsbPath, type UsbPath } from '../core/usb-path.ts';
import { WireError, type Taken } from './usbip-codec.ts';

/** The first exchange on a USB/IP connection: the list of devices, or the import of one. Version 1.1.1. */
export const VERSION = 0x0111;
export const OPERATION = {
  requestList: 0x8005,
  replyList: 0x0005,
  requestImport: 0x8003,
  replyImport: 0x0003,
} as const;

/** Status of an operation, as usbipd answers. */
export const OP_STATUS = { ok: 0, notAvailable: 1, busy: 2, deviceError: 3, noDevice: 4, error: 5 } as const;

const HEADER_BYTES = 8;
const PATH_BYTES = 256;
const BUS_ID_BYTES = 32;
const DEVICE_BYTES = 312;
const INTERFACE_BYTES = 4;
/** 127 addresses a bus; no host has more buses than this. */
const MAX_DEVICES = 4096;
const MAX_INTERFACES = 32;

export interface UsbipInterface {
  readonly interfaceClass: number;
  readonly subclass: number;
  readonly protocol: number;
}

/** A device as a list or an import names it (struct usbip_usb_device). */
export interface UsbipDevice {
  /** Where sysfs has it on the server; for people. */
  readonly path: string;
  /** `1-2.3` */
  readonly busId: UsbPath;
  readonly busNumber: number;
  readonly deviceNumber: number;
  /** enum usb_device_speed: 2 = full speed. */
  readonly speed: number;
  readonly vendorId: number;
  readonly productId: number;
  /** bcdDevice */
  readonly release: number;
  readonly deviceClass: number;
  readonly subclass: number;
  readonly protocol: number;
  /** 0: not configured. */
  readonly configuration: number;
  readonly configurations: number;
  readonly interfaceCount: number;
}

export interface ListedDevice extends UsbipDevice {
  readonly interfaces: readonly UsbipInterface[];
}

function operation(code: number, status: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeUInt16BE(VERSION, 0);
  bytes.writeUInt16BE(code, 2);
  bytes.writeUInt32BE(status, 4);
  return bytes;
}

function padded(text: string, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.write(text, 0, size - 1, 'latin1');
  return bytes;
}

export function encodeListRequest(): Buffer {
  return operation(OPERATION.requestList, OP_STATUS.ok);
}

export function encodeImportRequest(busId: string): Buffer {
  return Buffer.concat([operation(OPERATION.requestImport, OP_STATUS.ok), padded(busId, BUS_ID_BYTES)]);
}

function encodeDevice(device: UsbipDevice): Buffer {
  const numbers = Buffer.alloc(DEVICE_BYTES - PATH_BYTES - BUS_ID_BYTES);
  numbers.writeUInt32BE(device.busNumber, 0);
  numbers.writeUInt32BE(device.deviceNumber, 4);
  numbers.writeUInt32BE(device.speed, 8);
  numbers.writeUInt16BE(device.vendorId, 12);
  numbers.writeUInt16BE(device.productId, 14);
  numbers.writeUInt16BE(device.release, 16);
  const { deviceClass, subclass, protocol, configuration, configurations, interfaceCount } = device;
  numbers.set([deviceClass, subclass, protocol, configuration, configurations, interfaceCount], 18);
  return Buffer.concat([padded(device.path, PATH_BYTES), padded(device.busId, BUS_ID_BYTES), numbers]);
}

export function encodeListReply(devices: readonly ListedDevice[]): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(devices.length);
  const records = devices.flatMap(device => [
    encodeDevice({ ...device, interfaceCount: device.interfaces.length }),
    ...device.interfaces.map(each => Buffer.from([each.interfaceClass, each.subclass, each.protocol, 0])),
  ]);
  return Buffer.concat([operation(OPERATION.replyList, OP_STATUS.ok), count, ...records]);
}

/** @param device what is imported; null with a status that says why not */
export function encodeImportReply(status: number, device: UsbipDevice | null): Buffer {
  const head = operation(OPERATION.replyImport, status);
  return device ? Buffer.concat([head, encodeDevice(device)]) : head;
}

function textOf(bytes: Buffer, what: string): string {
  const end = bytes.indexOf(0);
  if (end < 0) throw new WireError(`${what} has no end`);
  const text = bytes.toString('latin1', 0, end);
  if (!/^[\x20-\x7e]*$/.test(text)) throw new WireError(`${what} is not plain text`);
  return text;
}

function decodeDevice(bytes: Buffer): UsbipDevice {
  const path = textOf(bytes.subarray(0, PATH_BYTES), 'the path of a device');
  const busIdText = textOf(bytes.subarray(PATH_BYTES, PATH_BYTES + BUS_ID_BYTES), 'a bus ID');
  const busId = parseUsbPath(busIdText);
  if (!busId || busId.includes('/')) throw new WireError(`\`${busIdText}\` is no bus ID`);
  const at = PATH_BYTES + BUS_ID_BYTES;
  return {
    path,
    busId,
    busNumber: bytes.readUInt32BE(at),
    deviceNumber: bytes.readUInt32BE(at + 4),
    speed: bytes.readUInt32BE(at + 8),
    vendorId: bytes.readUInt16BE(at + 12),
    productId: bytes.readUInt16BE(at + 14),
    release: bytes.readUInt16BE(at + 16),
    deviceClass: bytes.readUInt8(at + 18),
    subclass: bytes.readUInt8(at + 19),
    protocol: bytes.readUInt8(at + 20),
    configuration: bytes.readUInt8(at + 21),
    configurations: bytes.readUInt8(at + 22),
    interfaceCount: bytes.readUInt8(at + 23),
  };
}

/** @returns code and status, or null where they have not arrived. Throws WireError for another version. */
function takeHeader(arrived: Buffer): { code: number; status: number } | null {
  if (arrived.length < HEADER_BYTES) return null;
  const version = arrived.readUInt16BE(0);
  if (version !== VERSION)
    throw new WireError(`version 0x${version.toString(16).padStart(4, '0')}, where 0x0111 is spoken`);
  return { code: arrived.readUInt16BE(2), status: arrived.readUInt32BE(4) };
}

export type OperationRequest = { readonly kind: 'list' } | { readonly kind: 'import'; readonly busId: string };

/** What a client asks for first, for a server. @returns null where it has not arrived whole */
export function takeOperation(arrived: Buffer): Taken<OperationRequest> | null {
  const head = takeHeader(arrived);
  if (!head) return null;
  if (head.code === OPERATION.requestList) return { frame: { kind: 'list' }, bytes: HEADER_BYTES };
  if (head.code !== OPERATION.requestImport) throw new WireError(`operation 0x${head.code.toString(16)}`);
  const bytes = HEADER_BYTES + BUS_ID_BYTES;
  if (arrived.length < bytes) return null;
  return { frame: { kind: 'import', busId: textOf(arrived.subarray(HEADER_BYTES, bytes), 'the bus ID') }, bytes };
}

/** The answer to a list request. @returns null where it has not arrived whole */
export function takeListReply(arrived: Buffer): Taken<readonly ListedDevice[]> | null {
  const head = takeHeader(arrived);
  if (!head) return null;
  if (head.code !== OPERATION.replyList) throw new WireError(`operation 0x${head.code.toString(16)} instead of a list`);
  if (head.status !== OP_STATUS.ok) throw new WireError(`the list was refused with status ${head.status}`);
  if (arrived.length < HEADER_BYTES + 4) return null;
  const count = arrived.readUInt32BE(HEADER_BYTES);
  if (count > MAX_DEVICES) throw new WireError(`a list of ${count} devices`);
  const devices: ListedDevice[] = [];
  let at = HEADER_BYTES + 4;
  while (devices.length < count) {
    if (arrived.length < at + DEVICE_BYTES) return null;
    const device = decodeDevice(arrived.subarray(at, at + DEVICE_BYTES));
    const { interfaceCount } = device;
    if (interfaceCount > MAX_INTERFACES) throw new WireError(`${device.busId} with ${interfaceCount} interfaces`);
    at += DEVICE_BYTES;
    if (arrived.length < at + interfaceCount * INTERFACE_BYTES) return null;
    const interfaces = Array.from({ length: interfaceCount }, (_, n) => ({
      interfaceClass: arrived.readUInt8(at + n * INTERFACE_BYTES),
      subclass: arrived.readUInt8(at + n * INTERFACE_BYTES + 1),
      protocol: arrived.readUInt8(at + n * INTERFACE_BYTES + 2),
    }));
    at += interfaceCount * INTERFACE_BYTES;
    devices.push({ ...device, interfaces });
  }
  return { frame: devices, bytes: at };
}

export type ImportReply =
  { readonly status: 0; readonly device: UsbipDevice } | { readonly status: number; readonly device: null };

/** The answer to an import request. @returns null where it has not arrived whole */
export function takeImportReply(arrived: Buffer): Taken<ImportReply> | null {
  const head = takeHeader(arrived);
  if (!head) return null;
  if (head.code !== OPERATION.replyImport)
    throw new WireError(`operation 0x${head.code.toString(16)} instead of an import`);
  if (head.status !== OP_STATUS.ok) return { frame: { status: head.status, device: null }, bytes: HEADER_BYTES };
  const bytes = HEADER_BYTES + DEVICE_BYTES;
  if (arrived.length < bytes) return null;
  return { frame: { status: 0, device: decodeDevice(arrived.subarray(HEADER_BYTES, bytes)) }, bytes };
}
