import { generateKeyPair, generatePrime } from 'node:crypto';
import { promisify } from 'node:util';
import { classifyPrivateKey } from '../photon/classify-key.ts';
import { FIRMWARE_PRIVATE_KEY_BYTES } from '../photon/dct.ts';

const keyPair = promisify(generateKeyPair);

function prime(bits: number): Promise<bigint> {
  return new Promise((resolve, reject) =>
    generatePrime(bits, { bigint: true }, (error, value) => (error ? reject(error) : resolve(value))),
  );
}

export interface RsaDer {
  /** PKCS#1 (or, where asked for, PKCS#8) DER. */
  readonly privateKey: Buffer;
  /** SPKI DER. */
  readonly publicKey: Buffer;
}

/** A fresh pair as the vendor's tool would make it: ordinary DER, leading zeros dropped. */
export async function makeRsa(bits: number, type: 'pkcs1' | 'pkcs8' = 'pkcs1'): Promise<RsaDer> {
  return await keyPair('rsa', {
    modulusLength: bits,
    privateKeyEncoding: { type, format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
}

/**
 * An ordinary pair of a device that works: of those that a vendor's tool makes, the firmware misreads one in 130 or so, and
 * a virtual device has such a one only where it is asked for.
 */
export async function makeReadableRsa(make: () => Promise<RsaDer> = () => makeRsa(1024)): Promise<RsaDer> {
  for (;;) {
    const pair = await make();
    const field = Buffer.alloc(FIRMWARE_PRIVATE_KEY_BYTES, 0xff);
    field.set(pair.privateKey);
    if (classifyPrivateKey(field).classification === 'readable') return pair;
  }
}

const E = 65537n;

function inverse(a: bigint, modulus: bigint): bigint {
  let [r0, r1, t0, t1] = [modulus, a % modulus, 0n, 1n];
  while (r1 !== 0n) {
    const quotient = r0 / r1;
    [r0, r1, t0, t1] = [r1, r0 - quotient * r1, t1, t0 - quotient * t1];
  }
  return ((t0 % modulus) + modulus) % modulus;
}

function tlv(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}

function integer(value: bigint): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return tlv(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

/** rsaEncryption with NULL parameters (RFC 3279). */
const RSA_ALGORITHM = Buffer.from('300d06092a864886f70d0101010500', 'hex');

function encode(p: bigint, q: bigint, coefficient: bigint): RsaDer {
  const n = p * q;
  const d = inverse(E, (p - 1n) * (q - 1n));
  const numbers = [0n, n, E, d, p, q, d % (p - 1n), d % (q - 1n), coefficient];
  const publicBits = tlv(0x30, Buffer.concat([integer(n), integer(E)]));
  return {
    privateKey: tlv(0x30, Buffer.concat(numbers.map(integer))),
    publicKey: tlv(0x30, Buffer.concat([RSA_ALGORITHM, tlv(0x03, Buffer.concat([Buffer.from([0]), publicBits]))])),
  };
}

/**
 * A pair that every DER parser takes and the firmware misreads: its last number, q⁻¹ mod p, is
 * 63 bytes long with the top bit clear, so its length byte is odd and the reader skips a leading zero that is not there.
 * One ordered pair of primes in 512 is such, so a few dozen primes, each tried with all the others, are enough.
 */
export async function makeMisreadRsa(): Promise<RsaDer> {
  const low = 1n << 495n;
  const high = 1n << 503n;
  const primes: bigint[] = [];
  for (;;) {
    const fresh = await prime(512);
    if ((fresh - 1n) % E === 0n) continue;
    for (const other of primes) {
      for (const [p, q] of [
        [fresh, other],
        [other, fresh],
      ] as const) {
        const coefficient = inverse(q, p);
        if (coefficient >= low && coefficient < high && (p * q) >> 1023n === 1n) return encode(p, q, coefficient);
      }
    }
    primes.push(fresh);
  }
}
