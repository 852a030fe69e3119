import { crc32 } from 'node:zlib';
import type { Flash } from './photon-flash.ts';

/** The two raw copies in internal flash, 16 KB each, and where the application section begins in a copy. */
export const DCT_COPIES = [0x08004000, 0x08008000] as const;
export const COPY_BYTES = 0x4000;
export const APP_SECTION = 7548;
/** Offsets in the application section. */
export const VERSION_BLOCK = 8820;
export const DCT_END = 8836;

const MAGIC = 0x31544344; // 'DCT1', little endian
/** System flags that the bootloader counts up by itself: within bytes 0 to 31 of the application section. */
const BOOT_COUNTER = APP_SECTION + 28;

function sealed(copy: Uint8Array, sequence: number): Uint8Array {
  const bytes = Buffer.from(copy);
  const at = APP_SECTION + VERSION_BLOCK;
  bytes.writeUInt32LE(MAGIC, at);
  bytes.writeUInt32LE(sequence >>> 0, at + 4);
  bytes.writeUInt32LE(1, at + 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, at + 12)), at + 12);
  return bytes;
}

function sequenceOf(copy: Buffer): number | null {
  const at = APP_SECTION + VERSION_BLOCK;
  if (copy.readUInt32LE(at) !== MAGIC || copy.readUInt32LE(at + 12) !== crc32(copy.subarray(0, at + 12))) return null;
  return copy.readUInt32LE(at + 4);
}

/** The two copies as the factory leaves them: the first one in use, the second the one before it. */
export function firstCopies(header: Uint8Array, app: Uint8Array): Map<number, Uint8Array> {
  const copy = new Uint8Array(COPY_BYTES).fill(0xff);
  copy.set(header.subarray(0, APP_SECTION));
  copy.set(app.subarray(0, VERSION_BLOCK), APP_SECTION);
  return new Map([
    [DCT_COPIES[0], sealed(copy, 2)],
    [DCT_COPIES[1], sealed(copy, 1)],
  ]);
}

export type DctWrite = 'done' | 'failed' | 'destroyed';

/**
 * The DCT over its two copies. The one with a right CRC and the higher sequence is in use; a write rewrites the other
 * whole, so that a power cut leaves the old one as it was.
 */
export class DctStore {
  /** Sectors rewritten so far: what the flash wears by. */
  rewrites = 0;
  readonly #flash: Flash;
  #found: { changes: number; newest: { address: number; sequence: number } | null } | null = null;

  constructor(flash: Flash) {
    this.#flash = flash;
  }

  /** Looked for in both copies again when the flash has changed. */
  #newest(): { address: number; sequence: number } | null {
    if (this.#found?.changes !== this.#flash.changes) {
      this.#found = { changes: this.#flash.changes, newest: this.#findNewest() };
    }
    return this.#found.newest;
  }

  #findNewest(): { address: number; sequence: number } | null {
    let newest: { address: number; sequence: number } | null = null;
    for (const address of DCT_COPIES) {
      const sequence = sequenceOf(this.#flash.read(address, COPY_BYTES));
      if (sequence !== null && (newest === null || sequence > newest.sequence)) newest = { address, sequence };
    }
    return newest;
  }

  /** Bytes from `offset` of the application section on; past its end, whatever lies behind it in flash. */
  read(offset: number, length: number): Buffer {
    const address = this.#newest()?.address ?? DCT_COPIES[0];
    return this.#flash.read(address + APP_SECTION + offset, length);
  }

  async write(offset: number, data: Uint8Array): Promise<DctWrite> {
    const end = offset + data.length;
    if (end > DCT_END) return 'failed';
    if (end > VERSION_BLOCK) {
      // The vendor's length underflow: what follows the write is copied with a length near 2^32.
      for (const address of DCT_COPIES) await this.#flash.erase(address);
      return 'destroyed';
    }
    const current = this.#newest() ?? { address: DCT_COPIES[0], sequence: 0 };
    const target = current.address === DCT_COPIES[0] ? DCT_COPIES[1] : DCT_COPIES[0];
    const copy = this.#flash.read(current.address, COPY_BYTES);
    copy.set(data, APP_SECTION + offset);
    copy.writeUInt32LE((copy.readUInt32LE(BOOT_COUNTER) + 1) >>> 0, BOOT_COUNTER);
    await this.#flash.replace({ address: target, size: COPY_BYTES }, sealed(copy, current.sequence + 1));
    this.rewrites += 1;
    return 'done';
  }
}
