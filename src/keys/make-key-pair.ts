import type forge from 'node-forge';
import { canonicalPrivateDer } from './canonical.ts';
import { publicKeyOf } from './public-key.ts';
import type { PublicKey } from './public-key.ts';
import { isConsistent } from './rsa-numbers.ts';
import type { RsaPrivateNumbers } from './rsa-numbers.ts';

/** A new device key. `privateDer` is 611 bytes, canonical; wipe it after use. */
export interface KeyPair extends PublicKey {
  readonly privateDer: Buffer;
}

export const DEVICE_KEY_BITS = 1024;

/**
 * Makes an RSA-1024 pair. node-forge's callback form runs Node's native generator off the event loop; with a `prng` or
 * in pure JavaScript it would block for seconds, so neither is ever set.
 */
export async function makeKeyPair(): Promise<KeyPair> {
  const { pki } = (await import('node-forge')).default;
  const { privateKey } = await new Promise<forge.pki.rsa.KeyPair>((resolve, reject) => {
    pki.rsa.generateKeyPair({ bits: DEVICE_KEY_BITS, e: 0x10001 }, (error, pair) => {
      if (error as Error | null) reject(error);
      else resolve(pair);
    });
  });
  const numbers: RsaPrivateNumbers = {
    n: toBigint(privateKey.n),
    e: toBigint(privateKey.e),
    d: toBigint(privateKey.d),
    p: toBigint(privateKey.p),
    q: toBigint(privateKey.q),
    dp: toBigint(privateKey.dP),
    dq: toBigint(privateKey.dQ),
    qp: toBigint(privateKey.qInv),
  };
  if (!isConsistent(numbers)) throw new Error('the key generator gave numbers that do not belong together');
  return { ...publicKeyOf(numbers.n, numbers.e), privateDer: canonicalPrivateDer(numbers) };
}

function toBigint(value: forge.jsbn.BigInteger): bigint {
  return BigInt(`0x${value.toString(16)}`);
}
