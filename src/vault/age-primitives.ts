import { createCipheriv, createDecipheriv, createHmac, randomFillSync } from 'node:crypto';

/*
 * What age's package takes from @noble, by Node's own cryptography (OpenSSL): the build puts this in its place
 * (rolldown.config.js), under the same names and for as much as the package asks. The package's is JavaScript that was made for
 * browsers, and took two thirds of the time of an item.
 */

const CIPHER = 'chacha20-poly1305';
const TAG_BYTES = 16;
const HASH_BYTES = 32;

type Bytes = Uint8Array<ArrayBuffer>;

/** The only hash of the format: what it names is in `hmac` already. */
export const sha256 = 'sha256';

/** RFC 2104. */
export function hmac(hash: typeof sha256, key: Uint8Array, message: Uint8Array): Bytes {
  const digest = createHmac(hash, key).update(message).digest();
  const bytes = new Uint8Array(digest);
  digest.fill(0);
  return bytes;
}

/** RFC 5869, section 2.2. @param salt of zeros, where there is none */
export function extract(hash: typeof sha256, secret: Uint8Array, salt: Uint8Array = new Uint8Array(HASH_BYTES)): Bytes {
  return hmac(hash, salt, secret);
}

/** RFC 5869, section 2.3, as far as one hash goes. @param length in bytes, 32 at most: no key of the format is longer */
export function expand(
  hash: typeof sha256,
  key: Uint8Array,
  info: Uint8Array = new Uint8Array(0),
  length = HASH_BYTES,
): Bytes {
  if (length > HASH_BYTES) throw new RangeError(`${length} bytes of a key are more than one hash has`);
  const block = new Uint8Array(info.length + 1);
  block.set(info);
  block[info.length] = 1;
  return hmac(hash, key, block).subarray(0, length);
}

export function hkdf(
  hash: typeof sha256,
  secret: Uint8Array,
  salt: Uint8Array | undefined,
  info: Uint8Array | undefined,
  length: number,
): Bytes {
  const key = extract(hash, secret, salt);
  try {
    return expand(hash, key, info, length);
  } finally {
    key.fill(0);
  }
}

export function randomBytes(length: number): Bytes {
  return randomFillSync(new Uint8Array(length));
}

interface Aead {
  /** @returns what was sealed, and behind it the tag */
  encrypt(plain: Uint8Array): Bytes;
  /** @throws Error where the tag is not that of these bytes; nothing of them is given out then */
  decrypt(sealed: Uint8Array): Bytes;
}

/** RFC 8439. @param key 32 bytes @param nonce 12 bytes */
export function chacha20poly1305(key: Uint8Array, nonce: Uint8Array): Aead {
  return {
    encrypt(plain) {
      const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
      const sealed = new Uint8Array(plain.length + TAG_BYTES);
      sealed.set(cipher.update(plain));
      cipher.final();
      sealed.set(cipher.getAuthTag(), plain.length);
      return sealed;
    },
    decrypt(sealed) {
      const end = sealed.length - TAG_BYTES;
      if (end < 0) throw new Error('invalid ciphertext length');
      const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAuthTag(sealed.subarray(end));
      const opened = decipher.update(sealed.subarray(0, end));
      try {
        decipher.final();
        return new Uint8Array(opened);
      } catch {
        throw new Error('invalid tag');
      } finally {
        opened.fill(0);
      }
    },
  };
}
