import { bigintFromBytes, isConsistent } from '../keys/rsa-numbers.ts';
import type { RsaPrivateNumbers } from '../keys/rsa-numbers.ts';
import { FIRMWARE_PRIVATE_KEY_BYTES } from './dct.ts';

/**
 * A model of how the firmware reads its private key (device-os, communication: the loading of the RSA context): by
 * position, not by DER. From byte 9 on stands a length byte before each number; its low bit says whether one leading
 * zero follows. N and D then have 128 bytes, P, Q, DP, DQ and QP have 64; E is taken as 65537 without a look.
 * @param field at least the 612 bytes that the firmware reads
 */
export function readAsFirmware(field: Uint8Array): RsaPrivateNumbers | null {
  if (field.length < FIRMWARE_PRIVATE_KEY_BYTES) return null;
  const bytes = field.subarray(0, FIRMWARE_PRIVATE_KEY_BYTES);
  let at = 9;
  const take = (length: number, gap: number): bigint => {
    const start = at + 1 + ((bytes[at] ?? 0) & 1);
    at = start + length + gap;
    return bigintFromBytes(bytes.subarray(start, start + length));
  };
  const n = take(128, 7); // over E (5 bytes) and D's tag and length form
  const d = take(128, 1);
  const [p, q, dp, dq, qp] = [take(64, 1), take(64, 1), take(64, 1), take(64, 1), take(64, 1)];
  return { n, e: 65537n, d, p, q, dp, dq, qp };
}

/** Whether a device with this key in its DCT can connect at all. */
export function firmwareReads(field: Uint8Array, expected: { readonly n: bigint }): boolean {
  const read = readAsFirmware(field);
  return read !== null && read.n === expected.n && isConsistent(read);
}
