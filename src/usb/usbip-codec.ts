import { packSetup, unpackSetup, type SetupPacket } from './setup-packet.ts';

/**
 * USB/IP 1.1.1 as the Linux kernel documents it (Documentation/usb/usbip_protocol.rst): the frames of a connection
 * after OP_REP_IMPORT. All numbers are big endian, but for the setup packet. What comes from the wire is believed only
 * as far as it has been checked here; a frame that makes no sense throws a WireError, after which the connection is lost.
 */
export class WireError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'WireError';
  }
}

export const COMMAND = { submit: 1, unlink: 2, retSubmit: 3, retUnlink: 4 } as const;

/** Negative errno of Linux, as URBs end with. */
export const ERRNO = {
  ok: 0,
  noDevice: -19,
  invalid: -22,
  brokenPipe: -32,
  protocol: -71,
  overflow: -75,
  connectionReset: -104,
  shutdown: -108,
} as const;

export const FRAME_BYTES = 48;
/** A control transfer carries at most 65535 bytes; nothing here carries anything else. */
export const MAX_TRANSFER_BYTES = 0x1_0000;

export interface SubmitCommand {
  readonly kind: 'submit';
  readonly sequence: number;
  /** Bus number in the upper 16 bits, device number in the lower. */
  readonly deviceNumber: number;
  readonly direction: 'in' | 'out';
  readonly endpoint: number;
  /** transfer_buffer_length: what is sent, or at most taken, in bytes. */
  readonly length: number;
  readonly setup: SetupPacket;
  /** Empty for IN. */
  readonly data: Uint8Array;
}

export interface UnlinkCommand {
  readonly kind: 'unlink';
  readonly sequence: number;
  readonly deviceNumber: number;
  /** The sequence number of the URB to be withdrawn. */
  readonly victim: number;
}

export interface SubmitReply {
  readonly kind: 'retSubmit';
  readonly sequence: number;
  /** 0 or a negative errno. */
  readonly status: number;
  readonly actualLength: number;
  readonly data: Uint8Array;
}

export interface UnlinkReply {
  readonly kind: 'retUnlink';
  readonly sequence: number;
  /** -104: it was withdrawn, and has no answer of its own; 0: it had already been answered. */
  readonly status: number;
}

function header(command: number, sequence: number, deviceNumber: number, direction: 'in' | 'out', endpoint: number) {
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.writeUInt32BE(command, 0);
  frame.writeUInt32BE(sequence, 4);
  frame.writeUInt32BE(deviceNumber, 8);
  frame.writeUInt32BE(direction === 'in' ? 1 : 0, 12);
  frame.writeUInt32BE(endpoint, 16);
  return frame;
}

export function encodeSubmit(command: Omit<SubmitCommand, 'kind'>): Buffer {
  const { sequence, deviceNumber, direction, endpoint, length, setup, data } = command;
  const frame = header(COMMAND.submit, sequence, deviceNumber, direction, endpoint);
  frame.writeUInt32BE(length, 24);
  frame.set(packSetup(setup), 40);
  return direction === 'out' ? Buffer.concat([frame, data]) : frame;
}

export function encodeUnlink({ sequence, deviceNumber, victim }: Omit<UnlinkCommand, 'kind'>): Buffer {
  const frame = header(COMMAND.unlink, sequence, deviceNumber, 'out', 0);
  frame.writeUInt32BE(victim, 20);
  return frame;
}

/** @param reply `data` is what follows the header: the bytes of an IN transfer, nothing for OUT */
export function encodeSubmitReply({ sequence, status, actualLength, data }: Omit<SubmitReply, 'kind'>): Buffer {
  const frame = header(COMMAND.retSubmit, sequence, 0, 'out', 0);
  frame.writeInt32BE(status, 20);
  frame.writeUInt32BE(actualLength, 24);
  return Buffer.concat([frame, data]);
}

export function encodeUnlinkReply({ sequence, status }: Omit<UnlinkReply, 'kind'>): Buffer {
  const frame = header(COMMAND.retUnlink, sequence, 0, 'out', 0);
  frame.writeInt32BE(status, 20);
  return frame;
}

/** A frame taken off the front of what has arrived, and how many bytes it took. */
export interface Taken<T> {
  readonly frame: T;
  readonly bytes: number;
}

function bounded(length: number, what: string): number {
  if (length > MAX_TRANSFER_BYTES)
    throw new WireError(`${what} of ${length} bytes: a control transfer has no more than 65535`);
  return length;
}

/** Isochronous packets would follow the data; 0 and 0xffffffff both say that there are none. */
function refusePackets(count: number): void {
  if (count !== 0 && count !== 0xffff_ffff) throw new WireError(`${count} isochronous packets on a control transfer`);
}

/**
 * The next command of a client, for a server.
 * @returns null where it has not arrived whole
 */
export function takeCommand(arrived: Buffer): Taken<SubmitCommand | UnlinkCommand> | null {
  if (arrived.length < FRAME_BYTES) return null;
  const command = arrived.readUInt32BE(0);
  const sequence = arrived.readUInt32BE(4);
  const deviceNumber = arrived.readUInt32BE(8);
  if (command === COMMAND.unlink) {
    return { frame: { kind: 'unlink', sequence, deviceNumber, victim: arrived.readUInt32BE(20) }, bytes: FRAME_BYTES };
  }
  if (command !== COMMAND.submit) throw new WireError(`command ${command}, where 1 or 2 is expected`);
  const flag = arrived.readUInt32BE(12);
  const endpoint = arrived.readUInt32BE(16);
  if (flag > 1 || endpoint > 15) throw new WireError(`direction ${flag}, endpoint ${endpoint}`);
  const direction = flag === 1 ? 'in' : 'out';
  const length = bounded(arrived.readUInt32BE(24), 'transfer_buffer_length');
  refusePackets(arrived.readUInt32BE(32));
  const bytes = FRAME_BYTES + (direction === 'out' ? length : 0);
  if (arrived.length < bytes) return null;
  const setup = unpackSetup(arrived.subarray(40, FRAME_BYTES));
  const data = new Uint8Array(arrived.subarray(FRAME_BYTES, bytes));
  return { frame: { kind: 'submit', sequence, deviceNumber, direction, endpoint, length, setup, data }, bytes };
}

/**
 * The next answer of a server, for a client.
 * @param roomOf how many bytes the URB with this sequence number takes (0 for OUT); undefined: there is no such URB.
 *   A RET_SUBMIT does not say its own direction: Linux sends zeros there.
 * @returns null where it has not arrived whole
 */
export function takeReply(
  arrived: Buffer,
  roomOf: (sequence: number) => number | undefined,
): Taken<SubmitReply | UnlinkReply> | null {
  if (arrived.length < FRAME_BYTES) return null;
  const command = arrived.readUInt32BE(0);
  const sequence = arrived.readUInt32BE(4);
  const status = arrived.readInt32BE(20);
  if (status > 0) throw new WireError(`status ${status}, where 0 or a negative errno is expected`);
  if (command === COMMAND.retUnlink) return { frame: { kind: 'retUnlink', sequence, status }, bytes: FRAME_BYTES };
  if (command !== COMMAND.retSubmit) throw new WireError(`command ${command}, where 3 or 4 is expected`);
  const room = roomOf(sequence);
  if (room === undefined) throw new WireError(`an answer to sequence number ${sequence}, which was never submitted`);
  const actualLength = bounded(arrived.readUInt32BE(24), 'actual_length');
  refusePackets(arrived.readUInt32BE(32));
  if (room > 0 && actualLength > room) throw new WireError(`${actualLength} bytes for a transfer that takes ${room}`);
  const bytes = FRAME_BYTES + (room > 0 ? actualLength : 0);
  if (arrived.length < bytes) return null;
  const data = new Uint8Array(arrived.subarray(FRAME_BYTES, bytes));
  return { frame: { kind: 'retSubmit', sequence, status, actualLength, data }, bytes };
}
