import { isIn, type SetupPacket } from '../usb/setup-packet.ts';
import { DONE, STALL, type Reply } from './photon-request.ts';

/** Type of the request that makes a device enter DFU mode (device-os: CTRL_REQUEST_DFU_MODE). */
export const DFU_MODE = 50;

/** Values of bRequest; all but `send` are device to host. */
const SERVICE = { init: 1, check: 2, send: 3, receive: 4, reset: 5 } as const;
const STATUS = { ok: 0, pending: 2, busy: 3, notFound: 5 } as const;
const FIELD = { status: 1, id: 2, result: 8 } as const;

/** wLength of init, check and reset: less is refused by the protocol, more by the buffer of endpoint 0. */
const REPLY_LENGTH = 64;
const MOST_ACTIVE = 4;
const LAST_ID = 0xffff;
const NO_ERROR = 0;
/** SYSTEM_ERROR_NOT_SUPPORTED. */
const NOT_SUPPORTED = -120;

interface ControlRequest {
  readonly id: number;
  readonly type: number;
  /** Of its payload. */
  readonly sizeBytes: number;
  /** `payload`: it waits for that; `pending`: it is being handled; `done`: its result waits to be taken. */
  state: 'payload' | 'pending' | 'done';
}

/**
 * Control requests of Device OS 0.8 and newer (device-os: system/src/usb_control_request_channel.cpp; particle-usb:
 * src/usb-protocol.js):
 *
 *   init   IN 0xC0, 1, wIndex type, wValue size of the payload  → ok and an ID, busy if four are active
 *   send   OUT 0x40, 3, wIndex ID, the payload                   → stall if none of that size is awaited
 *   check  IN 0xC0, 2, wIndex ID  → ok (payload awaited), pending, ok with a result (which ends the request), not found
 *   reset  IN 0xC0, 5, wIndex ID, 0 for all                      → ok, not found
 *
 * A reply is flags u32 (of what follows: 1 status, 2 ID, 4 size, 8 result), status u16, ID u16, size u32, result i32, all
 * little endian. Here every request is pending for one check, and the only type that does anything is DFU mode: it does
 * so when its result has been taken, or the request is ended by a reset. No request has reply data, so `receive` stalls.
 */
export class ControlChannel {
  readonly #active = new Map<number, ControlRequest>();
  readonly #enterDfu: () => void;
  #lastId = 0;

  constructor(enterDfu: () => void) {
    this.#enterDfu = enterDfu;
  }

  powerOn(): void {
    this.#active.clear();
    this.#lastId = 0;
  }

  /** The bus was reset: every request ends. */
  reset(): void {
    for (const request of [...this.#active.values()]) this.#end(request);
  }

  answer(setup: SetupPacket, data: Uint8Array): Reply {
    const { request, value, index, length } = setup;
    if (!isIn(setup)) return request === SERVICE.send && this.#send(index, data) ? DONE : STALL;
    if (length !== REPLY_LENGTH) return STALL;
    switch (request) {
      case SERVICE.init:
        return this.#init(index, value);
      case SERVICE.check:
        return this.#check(index);
      case SERVICE.reset:
        return this.#reset(index);
      default:
        return STALL;
    }
  }

  #init(type: number, sizeBytes: number): Reply {
    if (this.#active.size >= MOST_ACTIVE) return reply(STATUS.busy);
    do this.#lastId = (this.#lastId % LAST_ID) + 1;
    while (this.#active.has(this.#lastId));
    const id = this.#lastId;
    this.#active.set(id, { id, type, sizeBytes, state: sizeBytes > 0 ? 'payload' : 'pending' });
    return reply(STATUS.ok, { id });
  }

  #send(id: number, data: Uint8Array): boolean {
    const request = this.#active.get(id);
    if (request?.state !== 'payload' || request.sizeBytes !== data.length) return false;
    request.state = 'pending';
    return true;
  }

  #check(id: number): Reply {
    const request = this.#active.get(id);
    switch (request?.state) {
      case undefined:
        return reply(STATUS.notFound);
      case 'payload':
        return reply(STATUS.ok);
      case 'pending':
        request.state = 'done';
        return reply(STATUS.pending);
      case 'done':
        this.#end(request);
        return reply(STATUS.ok, { result: request.type === DFU_MODE ? NO_ERROR : NOT_SUPPORTED });
    }
  }

  #reset(id: number): Reply {
    const request = this.#active.get(id);
    if (id === 0) this.reset();
    else if (request) this.#end(request);
    else return reply(STATUS.notFound);
    return reply(STATUS.ok);
  }

  #end(request: ControlRequest): void {
    this.#active.delete(request.id);
    if (request.type === DFU_MODE && request.state !== 'payload') this.#enterDfu();
  }
}

function reply(status: number, { id, result }: { id?: number; result?: number } = {}): Reply {
  const data = Buffer.alloc(6 + (id === undefined ? 0 : 2) + (result === undefined ? 0 : 4));
  const flags = FIELD.status | (id === undefined ? 0 : FIELD.id) | (result === undefined ? 0 : FIELD.result);
  let at = data.writeUInt16LE(status, data.writeUInt32LE(flags, 0));
  if (id !== undefined) at = data.writeUInt16LE(id, at);
  if (result !== undefined) data.writeInt32LE(result, at);
  return { kind: 'ok', data };
}
