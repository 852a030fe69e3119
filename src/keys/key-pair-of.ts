import { wipe } from '../core/bytes.ts';
import { readPrivateDer } from './canonical.ts';
import type { KeyPair } from './make-key-pair.ts';
import { publicKeyOf } from './public-key.ts';

/**
 * The pair of a private key.
 * @param privateDer is part of what is returned
 * @returns null, and the bytes wiped, where they hold no key whose numbers belong together
 */
export function keyPairOf(privateDer: Buffer): KeyPair | null {
  const parsed = readPrivateDer(privateDer);
  if (parsed) return { ...publicKeyOf(parsed.numbers.n, parsed.numbers.e), privateDer };
  wipe(privateDer);
  return null;
}
