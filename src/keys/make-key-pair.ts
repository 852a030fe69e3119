import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { wipe } from '../core/bytes.ts';
import { canonicalPrivateDer } from './canonical.ts';
import { publicKeyFromSpki } from './public-key.ts';
import type { PublicKey } from './public-key.ts';
import { isConsistent, parsePrivateDer } from './rsa-numbers.ts';

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
 * of the event loop to read its PEM.
 */
export async function makeKeyPair(): Promise<KeyPair> {
  const { privateKey, publicKey } = await generate('rsa', {
    modulusLength: DEVICE_KEY_BITS,
    publicExponent: 0x10001,
    privateKeyEncoding: { type: 'pkcs1', format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
  try {
    const numbers = parsePrivateDer(privateKey)?.numbers;
    if (!numbers || !isConsistent(numbers)) {
      throw new Error('the key generator gave numbers that do not belong together');
    }
    return { ...publicKeyFromSpki(publicKey), privateDer: canonicalPrivateDer(numbers) };
  } finally {
    wipe(privateKey);
  }
}
