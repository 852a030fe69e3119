import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

const COPY_BYTES = 0x4000;
const APP_SECTION = 7548;
const DCT_BYTES = 8391;
/** Behind the structure: magic, sequence, a constant, and the CRC-32 of all that stands before it in the copy. */
const VERSION_BLOCK = APP_SECTION + 8820;
const MAGIC = 'DCT1';

/**
 * The DCT of a virtual device as it lies in the state folder of its rack, read without the program: of the two copies
 * the whole one with the higher sequence. There is always one: whatever was cut, the old or the new copy is whole.
 */
export function dctInFolder(folder: string, index: number): { dct: Buffer; sequence: number } {
  const copies = ['08004000', '08008000'].flatMap(address => {
    const file = join(folder, `${String(index).padStart(4, '0')}-internal-${address}.bin`);
    const bytes = readFileSync(file);
    if (bytes.length !== COPY_BYTES) throw new Error(`${file} has ${bytes.length} bytes`);
    const whole =
      bytes.toString('latin1', VERSION_BLOCK, VERSION_BLOCK + 4) === MAGIC &&
      bytes.readUInt32LE(VERSION_BLOCK + 12) === crc32(bytes.subarray(0, VERSION_BLOCK + 12));
    return whole ? [{ bytes, sequence: bytes.readUInt32LE(VERSION_BLOCK + 4) }] : [];
  });
  copies.sort((a, b) => b.sequence - a.sequence);
  const [newest] = copies;
  if (!newest) throw new Error(`device ${index} has no whole copy of its DCT`);
  return { dct: newest.bytes.subarray(APP_SECTION, APP_SECTION + DCT_BYTES), sequence: newest.sequence };
}
