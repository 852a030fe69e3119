import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomFillSync } from 'node:crypto';
import { wipe } from '../core/bytes.ts';

/*
 * What age's package takes from @noble, by Node's own cryptography (OpenSSL): the build puts this in its place
 * (rolldown.config.js), under the same names and for as much as the package asks. The package's is JavaScript that was made for
 * browsers, and took two thirds of the time of an item.
 */

const CIPHER = 'chacha20-poly1305';
const TAG_BYTES = 16;

/** The only hash of the format. */
export const sha256 = 'sha256';

/** RFC 2104. */
export function hmac(hash: typeof sha256, key: Uint8Array, message: Uint8Array): Uint8Array {
  return createHmac(hash, key).update(message).digest();
}

/** RFC 5869. @param salt of zeros, where there is none @param length in bytes */
export function hkdf(
  hash: typeof sha256,
  secret: Uint8Array,
  salt: Uint8Array | undefined,
  info: Uint8Array,
  length: number,
): Uint8Array {
  return new Uint8Array(hkdfSync(hash, secret, salt ?? '', info, length));
}

export function randomBytes(length: number): Uint8Array {
  return randomFillSync(new Uint8Array(length));
}

interface Aead {
  /** @returns what was sealed, and behind it the tag */
  encrypt(plain: Uint8Array): Uint8Array;
  /** @throws Error where the tag is not that of these bytes; nothing of them is given out then */
  decrypt(sealed: Uint8Array): Uint8Array;
}

/** RFC 8439. @param key 32 bytes @param nonce 12 bytes */
export function chacha20poly1305(key: Uint8Array, nonce: Uint8Array): Aead {
  return {
    encrypt(plain) {
      const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
      return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    },
    decrypt(sealed) {
      const end = sealed.length - TAG_BYTES;
      if (end < 0) throw new Error('invalid ciphertext length');
      const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAuthTag(sealed.subarray(end));
      const opened = decipher.update(sealed.subarray(0, end));
      try {
        decipher.final();
        return opened;
      } catch {
        wipe(opened);
        throw new Error('invalid tag');
      }
    },
  };
}
