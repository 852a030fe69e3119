import type { ControlSetup } from '../usb/port.ts';

/** Class requests, DFU 1.1 table 3.2. */
export const REQUEST = {
  DETACH: 0,
  DNLOAD: 1,
  UPLOAD: 2,
  GETSTATUS: 3,
  CLRSTATUS: 4,
  GETSTATE: 5,
  ABORT: 6,
} as const;
export type RequestName = keyof typeof REQUEST;

/** Device states, DFU 1.1 section 6.1.2 (bState). */
export const STATE = {
  IDLE: 2,
  DNLOAD_SYNC: 3,
  DNBUSY: 4,
  DNLOAD_IDLE: 5,
  MANIFEST_SYNC: 6,
  MANIFEST: 7,
  WAIT_RESET: 8,
  UPLOAD_IDLE: 9,
  ERROR: 10,
} as const;

/** What GETSTATUS answers, DFU 1.1 section 6.1.2: six bytes. */
export interface DfuStatus {
  /** bStatus; 0 is OK. This bootloader never reports a failed write here. */
  readonly status: number;
  readonly pollTimeoutMs: number;
  readonly state: number;
}

/** @returns the status, or null where the answer is not the six bytes it has to be. */
export function parseStatus(data: Uint8Array): DfuStatus | null {
  const [status, low, middle, high, state] = data;
  if (data.length !== 6 || status === undefined || state === undefined) return null;
  return { status, pollTimeoutMs: (low ?? 0) | ((middle ?? 0) << 8) | ((high ?? 0) << 16), state };
}

/** The setup packet of a DFU class request to interface 0. */
export function dfuSetup(request: RequestName, value = 0): ControlSetup {
  return { requestType: 'class', recipient: 'interface', request: REQUEST[request], value, index: 0 };
}

/** DfuSe block 0 command 0x21: set the address pointer (UM0424; 32 bits, little endian). */
export function setPointerCommand(address: number): Uint8Array {
  return addressCommand(0x21, address);
}

/** DfuSe block 0 command 0x41: erase the sector that holds the address; the pointer is there afterwards. */
export function eraseCommand(address: number): Uint8Array {
  return addressCommand(0x41, address);
}

function addressCommand(code: number, address: number): Uint8Array {
  const command = new Uint8Array(5);
  command[0] = code;
  new DataView(command.buffer).setUint32(1, address, true);
  return command;
}

/** DfuSe: data blocks count from 2; block n lies at pointer + (n − 2) · transfer size. */
export const FIRST_DATA_BLOCK = 2;

/** `dfuDNLOAD-IDLE` and the like, for messages. */
export function stateName(state: number): string {
  const known = Object.entries(STATE).find(([, value]) => value === state);
  return known ? `dfu${known[0].replace('_', '-')}` : `state ${state}`;
}
