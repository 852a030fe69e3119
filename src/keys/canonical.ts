import { sameBytes, wipe } from '../core/bytes.ts';
import { bigintFromBytes, bigintToBytes, isConsistent, parsePrivateDer } from './rsa-numbers.ts';
import type { ParsedPrivateKey, RsaPrivateNumbers } from './rsa-numbers.ts';

/** Length of a device's private key in canonical form, in bytes. */
export const CANONICAL_PRIVATE_BYTES = 611;

/**
 * PKCS#1 DER of an RSA-1024 key with every number at full width (version 1 byte, N 129, E 3, D 129, the other five
 * 65): always 611 bytes. Ordinary DER drops leading zeros, and the firmware, which reads by position, then misreads
 * the key (device-os, communication: rsa key loading).
 * @throws RangeError where it is no RSA-1024 key with e = 65537
 */
export function canonicalPrivateDer(key: RsaPrivateNumbers): Buffer {
  if (key.e !== 65537n) throw new RangeError('the public exponent is not 65537');
  if (key.n >> 1023n !== 1n) throw new RangeError('the modulus does not have 1024 bits');
  const body = Buffer.concat([
    Buffer.from([0x02, 0x01, 0x00]),
    wideInteger(key.n, 129),
    Buffer.from([0x02, 0x03, 0x01, 0x00, 0x01]),
    wideInteger(key.d, 129),
    ...[key.p, key.q, key.dp, key.dq, key.qp].map(value => wideInteger(value, 65)),
  ]);
  return Buffer.concat([Buffer.from([0x30, 0x82, body.length >> 8, body.length & 0xff]), body]);
}

/** The sequence and the version: so every canonical key begins. */
const HEAD = Buffer.from('3082025f020100', 'hex');

/** An RSA private key, as `parsePrivateDer` reads it; by its places where it is canonical, which is what our own keys are. */
export function readPrivateDer(bytes: Uint8Array): ParsedPrivateKey | null {
  const numbers = readCanonical(bytes);
  if (!numbers) return parsePrivateDer(bytes);
  return isConsistent(numbers) ? { form: 'pkcs1', numbers } : null;
}

/**
 * The numbers of a canonical private key, read by their places.
 * @param bytes may go on behind it, as a field of the DCT does
 * @returns null where it is not canonical in every byte; whether the numbers belong together is another question
 */
function readCanonical(bytes: Uint8Array): RsaPrivateNumbers | null {
  if (bytes.length < CANONICAL_PRIVATE_BYTES || !sameBytes(bytes.subarray(0, HEAD.length), HEAD)) return null;
  const der = bytes.subarray(0, CANONICAL_PRIVATE_BYTES);
  let at = HEAD.length;
  const take = (head: number, width: number): bigint => {
    at += head + width;
    return bigintFromBytes(der.subarray(at - width, at));
  };
  const [n, e, d] = [take(3, 129), take(2, 3), take(3, 129)];
  const [p, q, dp, dq, qp] = [take(2, 65), take(2, 65), take(2, 65), take(2, 65), take(2, 65)];
  const numbers = { n, e, d, p, q, dp, dq, qp };
  if (e !== 65537n || n >> 1023n !== 1n) return null;
  if ([d, n].some(value => value >> 1024n !== 0n) || [p, q, dp, dq, qp].some(value => value >> 512n !== 0n))
    return null;
  const same = canonicalPrivateDer(numbers);
  const isCanonical = sameBytes(same, der);
  wipe(same);
  return isCanonical ? numbers : null;
}

function wideInteger(value: bigint, width: number): Buffer {
  const bytes = bigintToBytes(value, width);
  if (bytes[0] !== 0) throw new RangeError(`the number is longer than ${width - 1} bytes`);
  return Buffer.concat([Buffer.from(width < 128 ? [0x02, width] : [0x02, 0x81, width]), bytes]);
}
