import { allBytesAre } from '../core/bytes.ts';
import { readPrivateDer } from '../keys/canonical.ts';
import { publicKeyOf } from '../keys/public-key.ts';
import type { PublicKey } from '../keys/public-key.ts';
import { FIRMWARE_PRIVATE_KEY_BYTES } from './dct.ts';
import { firmwareReads } from './firmware-key-reader.ts';

/**
 * What lies in the private key's field. `readable`: the firmware can use it. `misread`: valid DER, but the firmware,
 * which reads by position, takes wrong numbers from it. `pkcs8`: a valid key in a wrapping that the firmware does not
 * know. `truncated`: begins as a key and is cut. `blank`: the first byte is 0xFF, which the firmware takes for "none".
 */
export const KEY_CLASSES = ['readable', 'misread', 'pkcs8', 'truncated', 'blank', 'zeros', 'other'] as const;
export type KeyClass = (typeof KEY_CLASSES)[number];

export interface ClassifiedKey {
  readonly classification: KeyClass;
  /** The public half, where it can be derived. */
  readonly publicKey: PublicKey | null;
}

/** @param field the 1216 bytes of the private key's field (612 at least) */
export function classifyPrivateKey(field: Uint8Array): ClassifiedKey {
  if (field[0] === 0xff) return { classification: 'blank', publicKey: null };
  if (allBytesAre(field.subarray(0, FIRMWARE_PRIVATE_KEY_BYTES), 0))
    return { classification: 'zeros', publicKey: null };
  const key = readPrivateDer(field);
  if (!key) return { classification: beginsAsKey(field) ? 'truncated' : 'other', publicKey: null };
  const publicKey = publicKeyOf(key.numbers.n, key.numbers.e);
  if (key.form === 'pkcs8') return { classification: 'pkcs8', publicKey };
  return { classification: firmwareReads(field, key.numbers) ? 'readable' : 'misread', publicKey };
}

/** SEQUENCE with two bytes of length, then version 0: so PKCS#1 and PKCS#8 both begin. */
function beginsAsKey(field: Uint8Array): boolean {
  const [tag, form, , , version, one, zero] = field;
  return tag === 0x30 && form === 0x82 && version === 0x02 && one === 0x01 && zero === 0x00;
}
