import { createPrivateKey, generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { wipe } from '../core/bytes.ts';
import { canonicalPrivateDer } from './canonical.ts';
import { publicKeyFromSpki } from './public-key.ts';
import type { PublicKey } from './public-key.ts';
import { bigintFromBytes, isConsistent } from './rsa-numbers.ts';
import type { RsaPrivateNumbers } from './rsa-numbers.ts';

/** A new device key. `privateDer` is 611 bytes, canonical; wipe it after use. */
export interface KeyPair extends PublicKey {
  readonly privateDer: Buffer;
  /** The private half as it lies sealed already, where that is to whom everything of its device is sealed. */
  readonly sealedPrivate?: Uint8Array;
}

export const DEVICE_KEY_BITS = 1024;

const generate = promisify(generateKeyPair);

/**
 * Makes an RSA-1024 pair, off the event loop. By Node itself: node-forge would ask the same generator, and take a millisecond
 * of the event loop to read what it gives.
 */
export async function makeKeyPair(): Promise<KeyPair> {
  const { privateKey, publicKey } = await generate('rsa', {
    modulusLength: DEVICE_KEY_BITS,
    publicExponent: 0x10001,
    privateKeyEncoding: { type: 'pkcs1', format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
  try {
    const numbers = numbersOf(privateKey);
    if (!isConsistent(numbers)) throw new Error('the key generator gave numbers that do not belong together');
    return { ...publicKeyFromSpki(publicKey), privateDer: canonicalPrivateDer(numbers) };
  } finally {
    wipe(privateKey);
  }
}

/** @param privateDer PKCS#1, as the generator gives it; a KeyObject of its own can lock Node 20 up when it is exported as JWK */
function numbersOf(privateDer: Buffer): RsaPrivateNumbers {
  const jwk = createPrivateKey({ key: privateDer, format: 'der', type: 'pkcs1' }).export({ format: 'jwk' });
  const number = (text = ''): bigint => bigintFromBytes(Buffer.from(text, 'base64url'));
  const [n, e, d, p, q] = [number(jwk.n), number(jwk.e), number(jwk.d), number(jwk.p), number(jwk.q)];
  return { n, e, d, p, q, dp: number(jwk.dp), dq: number(jwk.dq), qp: number(jwk.qi) };
}
