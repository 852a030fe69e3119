import type { Socket } from 'node:net';
import type { Taken } from './usbip-codec.ts';

/** What has arrived on a TCP stream and was not yet taken. Frames are bounded by whoever takes them. */
export class WireBuffer {
  #arrived: Buffer = Buffer.alloc(0);

  get length(): number {
    return this.#arrived.length;
  }

  push(piece: Buffer): void {
    this.#arrived = this.#arrived.length === 0 ? piece : Buffer.concat([this.#arrived, piece]);
  }

  /** @returns the next frame, or null where it has not arrived whole */
  take<T>(takeFrame: (arrived: Buffer) => Taken<T> | null): T | null {
    const taken = takeFrame(this.#arrived);
    if (!taken) return null;
    this.#arrived = this.#arrived.subarray(taken.bytes);
    return taken.frame;
  }
}

/** Writes a frame; what is written in one turn of the event loop goes out in one piece. */
export function writeFrame(socket: Socket, frame: Uint8Array): void {
  if (socket.writableCorked === 0) {
    socket.cork();
    process.nextTick(() => socket.uncork());
  }
  socket.write(frame);
}
