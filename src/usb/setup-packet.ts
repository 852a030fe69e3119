import type { ControlSetup } from './port.ts';

/** The eight bytes that open a control transfer (USB 2.0, 9.3), as numbers. */
export interface SetupPacket {
  /** bmRequestType: bit 7 set = device to host, bits 6..5 the type, bits 4..0 the recipient. */
  readonly requestType: number;
  readonly request: number;
  readonly value: number;
  readonly index: number;
  /** wLength: what the host sends, or at most takes, in bytes. */
  readonly length: number;
}

const TYPES = ['standard', 'class', 'vendor'] as const;
const RECIPIENTS = ['device', 'interface', 'endpoint', 'other'] as const;

/** Numbers of the standard requests (USB 2.0, table 9-4). */
export const STANDARD = {
  getStatus: 0,
  clearFeature: 1,
  setFeature: 3,
  getDescriptor: 6,
  getConfiguration: 8,
  setConfiguration: 9,
  getInterface: 10,
  setInterface: 11,
} as const;

/** Descriptor types (USB 2.0, table 9-5). */
export const DESCRIPTOR = { device: 1, configuration: 2, string: 3 } as const;

/** en-US, the one language of every Photon's strings. */
export const LANGUAGE_EN_US = 0x0409;

/** SET_FEATURE(PORT_RESET) to a hub's port: Linux's usbip stub takes it as "reset the device" (is_reset_device_cmd). */
export const PORT_RESET = { requestType: 0x23, request: STANDARD.setFeature, value: 4 } as const;

export function setupPacket(setup: ControlSetup, direction: 'in' | 'out', length: number): SetupPacket {
  const requestType =
    (direction === 'in' ? 0x80 : 0) | (TYPES.indexOf(setup.requestType) << 5) | RECIPIENTS.indexOf(setup.recipient);
  return { requestType, request: setup.request, value: setup.value, index: setup.index, length };
}

/** SET_INTERFACE, as `selectAlternateInterface` sends it. */
export function setInterface(interfaceNumber: number, alternateSetting: number): ControlSetup {
  const { setInterface: request } = STANDARD;
  return { requestType: 'standard', recipient: 'interface', request, value: alternateSetting, index: interfaceNumber };
}

export function isIn(packet: SetupPacket): boolean {
  return (packet.requestType & 0x80) !== 0;
}

export function packSetup(packet: SetupPacket): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt8(packet.requestType, 0);
  bytes.writeUInt8(packet.request, 1);
  bytes.writeUInt16LE(packet.value, 2);
  bytes.writeUInt16LE(packet.index, 4);
  bytes.writeUInt16LE(packet.length, 6);
  return bytes;
}

/** @param bytes at least eight of them */
export function unpackSetup(bytes: Buffer): SetupPacket {
  return {
    requestType: bytes.readUInt8(0),
    request: bytes.readUInt8(1),
    value: bytes.readUInt16LE(2),
    index: bytes.readUInt16LE(4),
    length: bytes.readUInt16LE(6),
  };
}

const STANDARD_NAMES = new Map<number, string>(Object.entries(STANDARD).map(([name, number]) => [number, name]));
const DFU_NAMES = ['DETACH', 'DNLOAD', 'UPLOAD', 'GETSTATUS', 'CLRSTATUS', 'GETSTATE', 'ABORT'];

/** For messages: `DFU GETSTATUS`, `getDescriptor`, `vendor request 80`. */
export function requestName(setup: ControlSetup): string {
  if (setup.requestType === 'standard') return STANDARD_NAMES.get(setup.request) ?? `standard request ${setup.request}`;
  const dfu = setup.requestType === 'class' && setup.recipient === 'interface' ? DFU_NAMES[setup.request] : undefined;
  return dfu === undefined ? `${setup.requestType} request ${setup.request}` : `DFU ${dfu}`;
}
