import { bigintToBytes } from './rsa-numbers.ts';
import type { RsaPrivateNumbers } from './rsa-numbers.ts';

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

function wideInteger(value: bigint, width: number): Buffer {
  const bytes = bigintToBytes(value, width);
  if (bytes[0] !== 0) throw new RangeError(`the number is longer than ${width - 1} bytes`);
  return Buffer.concat([Buffer.from(width < 128 ? [0x02, width] : [0x02, 0x81, width]), bytes]);
}
