import { once } from 'node:events';
import type { Socket } from 'node:net';
import { systemClock } from '../core/clock.ts';
import {
  encodeSubmitReply,
  encodeUnlinkReply,
  ERRNO,
  takeCommand,
  WireError,
  type SubmitCommand,
  type UnlinkCommand,
} from '../usb/usbip-codec.ts';
import { encodeImportReply, encodeListReply, OP_STATUS, takeOperation } from '../usb/usbip-operations.ts';
import { isIn } from '../usb/setup-packet.ts';
import { WireBuffer, writeFrame } from '../usb/wire-buffer.ts';
import { Moment } from './photon-ep0.ts';
import type { Reply } from './photon-request.ts';
import type { RackDevice } from './rack-device.ts';
import { listedDevice } from './usbip-listing.ts';
import type { VirtualRack } from './virtual-rack.ts';

/** What a client did. `remote` is its address. */
export type RackEvent =
  | { readonly type: 'listed'; readonly remote: string; readonly devices: number }
  | { readonly type: 'imported' | 'released'; readonly remote: string; readonly busId: string }
  | { readonly type: 'refused'; readonly remote: string; readonly busId: string; readonly status: number }
  | { readonly type: 'protocol-error'; readonly remote: string; readonly message: string };

export interface SessionEnds {
  onEvent(event: RackEvent): void;
  onEnded(): void;
}

/** A client that has not said what it wants by then is hung up on. */
const SILENCE_MS = 10_000;
/** Linux keeps far fewer control URBs in flight. */
const MAX_PENDING = 256;
const MAX_UNREAD_BYTES = 8 * 1024 * 1024;

interface Import {
  readonly device: RackDevice;
  readonly appearance: number;
  readonly number: number;
  readonly pending: Map<number, Moment>;
  readonly giveBack: () => void;
  readonly stopWatching: () => void;
}

/**
 * One connection. It begins with an operation: a list, which ends it, or an import, after which it carries URBs until
 * either side hangs up. Nothing that a client sends does more than end its own connection.
 */
export class UsbipSession {
  readonly #rack: VirtualRack;
  readonly #socket: Socket;
  readonly #ends: SessionEnds;
  readonly #arrived = new WireBuffer();
  readonly #remote: string;
  #import: Import | null = null;
  #answered = false;

  constructor(rack: VirtualRack, socket: Socket, ends: SessionEnds) {
    this.#rack = rack;
    this.#socket = socket;
    this.#ends = ends;
    this.#remote = `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`;
    socket.setTimeout(SILENCE_MS, () => socket.destroy());
    socket.on('error', () => undefined); // the close that follows says all
    socket.on('close', () => this.#closed());
    socket.on('data', piece => this.#receive(piece));
  }

  /** Resolves when the connection has ended, and its device is free. */
  async hangUp(): Promise<void> {
    if (this.#socket.closed) return;
    const closed = once(this.#socket, 'close');
    this.#socket.destroy();
    await closed;
  }

  #receive(piece: Buffer): void {
    if (this.#answered) return; // whatever follows a list or a refusal is of no interest
    this.#arrived.push(piece);
    try {
      while (!this.#socket.destroyed && this.#step());
    } catch (cause) {
      if (!(cause instanceof WireError)) throw cause;
      this.#ends.onEvent({ type: 'protocol-error', remote: this.#remote, message: cause.message });
      this.#socket.destroy();
    }
  }

  /** @returns whether a frame was taken, and so another may follow */
  #step(): boolean {
    if (this.#import) {
      const command = this.#arrived.take(takeCommand);
      if (command) this.#command(this.#import, command);
      return command !== null;
    }
    if (this.#answered) return false;
    const operation = this.#arrived.take(takeOperation);
    if (!operation) return false;
    if (operation.kind === 'list') this.#list();
    else this.#importDevice(operation.busId);
    return true;
  }

  #list(): void {
    // As the kernel's usbipd: what is imported is not listed.
    const devices = this.#rack.devices.filter(device => device.onBus && !device.held).map(listedDevice);
    this.#ends.onEvent({ type: 'listed', remote: this.#remote, devices: devices.length });
    this.#answerAndEnd(encodeListReply(devices));
  }

  #importDevice(busId: string): void {
    const device = this.#rack.devices.find(each => each.busId === busId && each.onBus);
    const now = (this.#rack.clock ?? systemClock).monotonicMs();
    // USB/IP has no word for "not yet": to a client it is as if another program held it.
    const giveBack = device?.letsIn(now) ? device.hold() : null;
    if (!device || !giveBack) {
      const status = device ? OP_STATUS.busy : OP_STATUS.noDevice;
      this.#ends.onEvent({ type: 'refused', remote: this.#remote, busId, status });
      this.#answerAndEnd(encodeImportReply(status, null));
      return;
    }
    const listed = listedDevice(device);
    this.#import = {
      device,
      appearance: device.appearance,
      number: ((listed.busNumber << 16) | listed.deviceNumber) >>> 0,
      pending: new Map(),
      giveBack,
      stopWatching: this.#rack.onChange(() => this.#watch()),
    };
    this.#socket.setTimeout(0);
    this.#socket.setKeepAlive(true, SILENCE_MS);
    this.#ends.onEvent({ type: 'imported', remote: this.#remote, busId });
    this.#socket.write(encodeImportReply(OP_STATUS.ok, listed));
  }

  #answerAndEnd(answer: Buffer): void {
    this.#answered = true;
    this.#socket.end(answer);
  }

  #command(held: Import, command: SubmitCommand | UnlinkCommand): void {
    if (command.deviceNumber !== held.number)
      throw new WireError(`devid ${command.deviceNumber} is not the imported one`);
    if (command.kind === 'unlink') {
      const pending = held.pending.get(command.victim);
      held.pending.delete(command.victim);
      pending?.come();
      this.#write(
        encodeUnlinkReply({ sequence: command.sequence, status: pending ? ERRNO.connectionReset : ERRNO.ok }),
      );
      return;
    }
    if (held.pending.has(command.sequence)) throw new WireError(`sequence number ${command.sequence} twice`);
    if (held.pending.size >= MAX_PENDING) throw new WireError(`more than ${MAX_PENDING} URBs in flight`);
    const cancel = new Moment();
    held.pending.set(command.sequence, cancel);
    void this.#transfer(held, command, cancel);
  }

  async #transfer(held: Import, command: SubmitCommand, cancel: Moment): Promise<void> {
    const { sequence, direction, length } = command;
    const reply = await this.#ask(held, command, cancel);
    // Unlinked meanwhile: the answer to the unlink was its last word.
    if (!held.pending.delete(sequence) || reply.kind === 'cancelled') return;
    const room = Math.min(length, command.setup.length);
    const ok = reply.kind === 'ok';
    const data = ok && direction === 'in' ? reply.data.subarray(0, room) : new Uint8Array(0);
    const status = ok ? ERRNO.ok : reply.kind === 'stall' ? ERRNO.brokenPipe : ERRNO.shutdown;
    const actualLength = ok && direction === 'out' ? length : data.length;
    this.#write(encodeSubmitReply({ sequence, status, actualLength, data }));
    if (reply.kind === 'gone') this.#watch();
  }

  async #ask({ device, appearance }: Import, command: SubmitCommand, cancel: Moment): Promise<Reply> {
    const { endpoint, direction, length, setup, data } = command;
    if (device.appearance !== appearance) return { kind: 'gone' };
    // There is endpoint 0 and no other. A transfer without data has no direction of its own.
    const fits = length === 0 || (direction === 'in') === isIn(setup);
    if (endpoint !== 0 || !fits || (direction === 'out' && setup.length !== length)) return { kind: 'stall' };
    return await device.photon.control(setup, data, cancel);
  }

  /** Hangs up when the device is no longer there, after the URBs that were pending have had their answers. */
  #watch(): void {
    const held = this.#import;
    if (!held || (held.device.onBus && held.device.appearance === held.appearance)) return;
    setImmediate(() => {
      this.#socket.setTimeout(SILENCE_MS);
      this.#socket.end();
    });
  }

  #write(frame: Buffer): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    writeFrame(this.#socket, frame);
    if (this.#socket.writableLength > MAX_UNREAD_BYTES) this.#socket.destroy();
  }

  #closed(): void {
    const held = this.#import;
    this.#import = null;
    this.#answered = true;
    if (held) {
      held.stopWatching();
      for (const pending of held.pending.values()) pending.come();
      held.giveBack();
      this.#ends.onEvent({ type: 'released', remote: this.#remote, busId: held.device.busId });
    }
    this.#ends.onEnded();
  }
}
