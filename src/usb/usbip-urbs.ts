import type { Socket } from 'node:net';
import type { Clock } from '../core/clock.ts';
import type { Fault } from '../core/errors.ts';
import type { ControlSetup } from './port.ts';
import { goneFault, ioFault, timeoutFault } from './port-faults.ts';
import { setupPacket } from './setup-packet.ts';
import {
  encodeSubmit,
  encodeUnlink,
  ERRNO,
  takeReply,
  WireError,
  type SubmitReply,
  type UnlinkReply,
} from './usbip-codec.ts';
import { hangUp, protocolFault, type RackAddress } from './usbip-dial.ts';
import { writeFrame, type WireBuffer } from './wire-buffer.ts';

/** An imported device: its connection, from the answer to OP_REQ_IMPORT on. */
export interface Imported {
  readonly rack: RackAddress;
  readonly path: string;
  readonly socket: Socket;
  readonly rest: WireBuffer;
  /** devid: bus number in the upper 16 bits, device number in the lower. */
  readonly deviceNumber: number;
  readonly clock: Clock;
  /** Called once, when the connection has ended, by whichever side. */
  onEnded(): void;
}

interface Urb {
  readonly setup: ControlSetup;
  /** Bytes that an IN transfer takes; 0 for OUT. */
  readonly room: number;
  readonly timeoutMs: number;
  /** Null once it was given up: its answer, if one comes, is dropped. */
  settle: { resolve(reply: SubmitReply): void; reject(fault: Fault): void } | null;
}

/**
 * The URBs of one imported device. Several may be in flight, of which the device serves the first; each answer finds its own
 * by the sequence number. Where the first runs into its timeout or fails, it and those behind it are unlinked, and what comes
 * for them afterwards is dropped.
 */
export class UrbLink {
  readonly #device: Imported;
  readonly #urbs = new Map<number, Urb>();
  /** Of each CMD_UNLINK on its way: the URB that it withdraws. */
  readonly #unlinks = new Map<number, number>();
  #sequence = 0;
  /** The URB whose time runs: the first that is waited for. */
  #timed: Urb | null = null;
  #stopTime: () => void = () => undefined;
  #ended: Fault | null = null;

  constructor(device: Imported) {
    this.#device = device;
    const { socket, rest } = device;
    socket.on('data', piece => {
      rest.push(piece);
      this.#drain();
    });
    socket.on('error', () => this.#end(goneFault(device.path)));
    socket.on('close', () => this.#end(goneFault(device.path)));
    socket.setKeepAlive(true, 10_000);
    socket.resume();
    if (socket.closed || socket.destroyed) this.#end(goneFault(device.path));
  }

  get alive(): boolean {
    return this.#ended === null;
  }

  /**
   * One control transfer on endpoint 0.
   * @returns the bytes of an IN transfer (none for OUT), or `stall`
   * @throws Fault USB_GONE, USB_TIMEOUT, USB_IO (with the server's errno), RACK_PROTOCOL
   */
  async control(
    setup: ControlSetup,
    direction: 'in' | 'out',
    data: Uint8Array,
    length: number,
    timeoutMs: number,
  ): Promise<Uint8Array | 'stall'> {
    if (this.#ended) throw this.#ended;
    const { socket, deviceNumber } = this.#device;
    const sequence = this.#nextSequence();
    const reply = await new Promise<SubmitReply>((resolve, reject) => {
      const room = direction === 'in' ? length : 0;
      this.#urbs.set(sequence, { setup, room, timeoutMs, settle: { resolve, reject } });
      const packet = setupPacket(setup, direction, length);
      writeFrame(socket, encodeSubmit({ sequence, deviceNumber, direction, endpoint: 0, length, setup: packet, data }));
      this.#timeFirst();
    });
    const fault = this.#faultOf(reply);
    if (fault) {
      this.#withdrawAll(fault);
      throw fault;
    }
    return reply.status === ERRNO.brokenPipe ? 'stall' : reply.data;
  }

  /** Ends the connection, which gives the device back. */
  async close(): Promise<void> {
    this.#end(ioFault(this.#device.path, 'it was closed during a transfer'));
    await hangUp(this.#device.socket);
  }

  #faultOf({ status }: SubmitReply): Fault | null {
    switch (status) {
      case ERRNO.ok:
      case ERRNO.brokenPipe:
        return null;
      case ERRNO.noDevice:
      case ERRNO.shutdown:
        return goneFault(this.#device.path);
      default:
        return ioFault(this.#device.path, `the transfer failed on the rack with errno ${-status}`, { errno: -status });
    }
  }

  /** The device serves one after the other: the time of each begins when it is the first. */
  #timeFirst(): void {
    let first: Urb | null = null;
    for (const urb of this.#urbs.values()) {
      if (!urb.settle) continue;
      first = urb;
      break;
    }
    if (first === this.#timed) return;
    this.#stopTime();
    this.#timed = first;
    this.#stopTime = () => undefined;
    if (!first) return;
    const { setup, timeoutMs } = first;
    const fault = (): Fault => timeoutFault(this.#device.path, setup, timeoutMs);
    this.#stopTime = this.#device.clock.after(timeoutMs, () => this.#withdrawAll(fault()));
  }

  /** Gives up whatever is waited for. */
  #withdrawAll(why: Fault): void {
    for (const [sequence, { settle }] of [...this.#urbs]) {
      if (!settle) continue;
      this.#unlink(sequence);
      settle.reject(why);
    }
    this.#timeFirst();
  }

  #nextSequence(): number {
    this.#sequence = (this.#sequence % 0xffff_ffff) + 1;
    return this.#sequence;
  }

  #unlink(victim: number): void {
    const urb = this.#urbs.get(victim);
    if (!urb || this.#ended) return;
    urb.settle = null;
    const sequence = this.#nextSequence();
    this.#unlinks.set(sequence, victim);
    writeFrame(this.#device.socket, encodeUnlink({ sequence, deviceNumber: this.#device.deviceNumber, victim }));
  }

  #drain(): void {
    try {
      for (;;) {
        const reply = this.#device.rest.take(arrived => takeReply(arrived, of => this.#urbs.get(of)?.room));
        if (!reply) return;
        this.#accept(reply);
      }
    } catch (cause) {
      if (!(cause instanceof WireError)) throw cause;
      this.#end(protocolFault(this.#device.rack, cause));
    }
  }

  #accept(reply: SubmitReply | UnlinkReply): void {
    if (reply.kind === 'retSubmit') {
      const urb = this.#urbs.get(reply.sequence);
      this.#urbs.delete(reply.sequence);
      urb?.settle?.resolve(reply);
      this.#timeFirst();
      return;
    }
    const victim = this.#unlinks.get(reply.sequence);
    if (victim === undefined) throw new WireError(`an answer to unlink ${reply.sequence}, which was never asked`);
    this.#unlinks.delete(reply.sequence);
    this.#urbs.delete(victim);
  }

  #end(why: Fault): void {
    if (this.#ended) return;
    this.#ended = why;
    for (const urb of this.#urbs.values()) urb.settle?.reject(why);
    this.#urbs.clear();
    this.#unlinks.clear();
    this.#timeFirst();
    this.#device.socket.destroy();
    this.#device.onEnded();
  }
}
