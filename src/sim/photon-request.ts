import { isIn, STANDARD, type SetupPacket } from '../usb/setup-packet.ts';

/**
 * What became of a control transfer. `ok`: the bytes of an IN transfer, none for OUT. `gone`: the device left the bus
 * before it answered. `cancelled`: the host withdrew the transfer; what the device had begun, it goes on with.
 */
export type Reply =
  | { readonly kind: 'ok'; readonly data: Uint8Array }
  | { readonly kind: 'stall' }
  | { readonly kind: 'gone' }
  | { readonly kind: 'cancelled' };

export const STALL: Reply = { kind: 'stall' };
export const GONE: Reply = { kind: 'gone' };
export const CANCELLED: Reply = { kind: 'cancelled' };
export const DONE: Reply = { kind: 'ok', data: new Uint8Array(0) };

/** Names by which requests are counted and faults name them; the first seven are DFU's, in the order of their numbers. */
export const REQUEST_NAMES = [
  'detach',
  'dnload',
  'upload',
  'getstatus',
  'clrstatus',
  'getstate',
  'abort',
  'descriptor',
  'other',
] as const;
export type RequestName = (typeof REQUEST_NAMES)[number];

export interface DeviceRequest {
  readonly name: RequestName;
  readonly setup: SetupPacket;
  /** The data stage of an OUT transfer; empty for IN. */
  readonly data: Uint8Array;
}

/** 0x21 out, 0xA1 in: class requests to an interface, which on this device are DFU's. */
export function isDfu(setup: SetupPacket): boolean {
  return (setup.requestType & 0x7f) === 0x21;
}

export function nameOf(setup: SetupPacket): RequestName {
  if (isDfu(setup) && setup.request <= 6) return REQUEST_NAMES[setup.request] ?? 'other';
  const standard = (setup.requestType & 0x60) === 0;
  return standard && isIn(setup) && setup.request === STANDARD.getDescriptor ? 'descriptor' : 'other';
}
