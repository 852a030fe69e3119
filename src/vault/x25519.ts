import { createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { base64nopad, bech32 } from '@scure/base';
import type { Identity, Recipient } from 'age-encryption';
import { allBytesAre, wipe } from '../core/bytes.ts';
import { chacha20poly1305 } from './age-primitives.ts';

/*
 * age's native recipient type (age-encryption.org/v1, "The X25519 recipient type") over Node's own cryptography. The
 * package's is JavaScript, and takes milliseconds of the event loop for each item; what both make is the same.
 *
 *   -> X25519 BASE64(ephemeral share)
 *   ChaCha20-Poly1305(HKDF-SHA-256(shared secret, salt = share ‖ recipient, info), nonce of zeros, file key)
 */

const INFO = 'age-encryption.org/v1/X25519';
const POINT_BYTES = 32;
const FILE_KEY_BYTES = 16;
const TAG_BYTES = 16;
const NO_NONCE = Buffer.alloc(12);

/** What stands before the 32 bytes of a private key in DER (PKCS#8). */
const PRIVATE_DER = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** Someone to seal for. @throws Error where `text` is no X25519 recipient (age1…), or its checksum is wrong */
export function recipientOf(text: string): Recipient {
  const recipient = pointIn(text, 'age');
  const theirs = publicKeyOf(recipient);
  return {
    async wrapFileKey(fileKey) {
      const { Stanza } = await import('age-encryption');
      const { privateKey } = generateKeyPairSync('x25519');
      const share = publicPointOf(privateKey);
      const key = wrapKey(privateKey, theirs, share, recipient);
      try {
        const body = chacha20poly1305(key, NO_NONCE).encrypt(fileKey);
        return [new Stanza(['X25519', base64nopad.encode(share)], body)];
      } finally {
        wipe(key);
      }
    },
  };
}

/** Someone who opens. @throws Error where `text` is no X25519 identity (AGE-SECRET-KEY-1…), or its checksum is wrong */
export function identityOf(text: string): Identity {
  const privateKey = privateKeyIn(text);
  const recipient = publicPointOf(privateKey);
  return {
    unwrapFileKey(stanzas) {
      for (const { args, body } of stanzas) {
        if (args[0] !== 'X25519') continue;
        const share = args.length === 2 && args[1] !== undefined ? base64nopad.decode(args[1]) : undefined;
        if (share?.length !== POINT_BYTES || body.length !== FILE_KEY_BYTES + TAG_BYTES) {
          throw new Error('a stanza is not as it should be');
        }
        const key = wrapKey(privateKey, publicKeyOf(share), share, recipient);
        const fileKey = unwrap(key, body);
        wipe(key);
        if (fileKey) return fileKey;
      }
      return null;
    },
  };
}

/** The recipient (age1…) of an identity. @throws Error as `identityOf` does */
export function recipientTextOf(identity: string): string {
  return bech32.encodeFromBytes('age', publicPointOf(privateKeyIn(identity)));
}

/** A fresh identity, in age's words. */
export function newIdentity(): string {
  const der = generateKeyPairSync('x25519').privateKey.export({ type: 'pkcs8', format: 'der' });
  const text = bech32.encodeFromBytes('AGE-SECRET-KEY-', der.subarray(PRIVATE_DER.length)).toUpperCase();
  wipe(der);
  return text;
}

function privateKeyIn(text: string): KeyObject {
  if (!text.startsWith('AGE-SECRET-KEY-1')) throw new Error('no X25519 identity');
  const scalar = pointIn(text, 'age-secret-key-');
  const der = Buffer.concat([PRIVATE_DER, scalar]);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } finally {
    wipe(scalar, der);
  }
}

function pointIn(text: string, prefix: string): Uint8Array {
  const { prefix: found, bytes } = bech32.decodeToBytes(text);
  if (found.toLowerCase() !== prefix || bytes.length !== POINT_BYTES) throw new Error('another kind of key');
  return bytes;
}

/** By way of JWK, since OpenSSL takes ten times as long over a key in DER. */
function publicKeyOf(point: Uint8Array): KeyObject {
  const x = Buffer.from(point.buffer, point.byteOffset, point.length).toString('base64url');
  return createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });
}

/** The base point of Curve25519 (RFC 7748, section 4.1). */
const BASE_POINT = publicKeyOf(Uint8Array.of(9, ...Array<number>(POINT_BYTES - 1).fill(0)));

/**
 * The public half: the private key times the base point. No key is exported: as DER that takes twice as long, and as JWK
 * Node 20 can lock itself up over a fresh one.
 */
function publicPointOf(privateKey: KeyObject): Buffer {
  return diffieHellman({ privateKey, publicKey: BASE_POINT });
}

/** @throws Error where the shared secret is all zeros: the other point has a small order */
function wrapKey(privateKey: KeyObject, publicKey: KeyObject, share: Uint8Array, recipient: Uint8Array): Buffer {
  const secret = diffieHellman({ privateKey, publicKey });
  try {
    if (allBytesAre(secret, 0)) throw new Error('the shared secret is all zeros');
    return Buffer.from(hkdfSync('sha256', secret, Buffer.concat([share, recipient]), INFO, 32));
  } finally {
    wipe(secret);
  }
}

/** null: wrapped for somebody else. */
function unwrap(key: Buffer, body: Uint8Array): Uint8Array | null {
  try {
    return chacha20poly1305(key, NO_NONCE).decrypt(body);
  } catch {
    return null;
  }
}
