import { createPublicKey } from 'node:crypto';
import type forge from 'node-forge';
import { sameBytes, sha256Hex } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { asn1, jsbn, pki } from './forge.ts';
import { bigintFromBytes, bigintToBytes } from './rsa-numbers.ts';

/** A public key as it goes to the cloud and onto the record. */
export interface PublicKey {
  /** SubjectPublicKeyInfo, DER (RFC 5280, 4.1); 162 bytes for RSA-1024. */
  readonly spki: Buffer;
  /** `BEGIN PUBLIC KEY`. */
  readonly pem: string;
  /** SHA-256 of the SPKI DER, lower-case hex. */
  readonly fingerprint: string;
}

/**
 * What every device's key is: SubjectPublicKeyInfo of RSA-1024 with e = 65537, but for its modulus (RFC 5280, 4.1; RFC 8017,
 * A.1.1): before it the algorithm, the tags and the modulus's zero byte, behind it the exponent.
 */
const BEFORE_MODULUS = Buffer.from('30819f300d06092a864886f70d010101050003818d0030818902818100', 'hex');
const BEHIND_MODULUS = Buffer.from('0203010001', 'hex');

/** The public key of a modulus and an exponent. */
export function publicKeyOf(n: bigint, e: bigint): PublicKey {
  if (e === 65537n && n >> 1023n === 1n) {
    return publicKeyFromSpki(Buffer.concat([BEFORE_MODULUS, bigintToBytes(n, 128), BEHIND_MODULUS]));
  }
  const key = pki.setRsaPublicKey(bigInteger(n), bigInteger(e));
  return publicKeyFromSpki(Buffer.from(asn1.toDer(pki.publicKeyToAsn1(key)).getBytes(), 'binary'));
}

/** The modulus of a device's public key; null where it is no RSA-1024 key with e = 65537. */
export function modulusOf(spki: Uint8Array): bigint | null {
  const [from, to] = [BEFORE_MODULUS.length, BEFORE_MODULUS.length + 128];
  if (!sameBytes(spki.subarray(0, from), BEFORE_MODULUS) || !sameBytes(spki.subarray(to), BEHIND_MODULUS)) return null;
  return bigintFromBytes(spki.subarray(from, to));
}

export function publicKeyFromSpki(spki: Buffer): PublicKey {
  const lines = spki.toString('base64').replace(/.{1,64}/g, '$&\n');
  return {
    spki,
    pem: `-----BEGIN PUBLIC KEY-----\n${lines}-----END PUBLIC KEY-----\n`,
    fingerprint: sha256Hex(spki),
  };
}

/** The fingerprint of what a PEM holds; null where it holds no public key. */
export function fingerprintOfPem(pem: string): string | null {
  const spki = pem.includes('PUBLIC KEY') ? toSpki(Buffer.from(pem)) : null;
  return spki && sha256Hex(spki);
}

/** Length of a server key that the firmware can read, in bytes: it takes the modulus from offset 33. */
export const SERVER_KEY_BYTES = 294;

/**
 * Reads a server's public key, PEM or DER, and checks that it is the only kind the firmware takes.
 * @throws Fault SERVER_KEY_INVALID
 */
export function parseServerKey(file: Uint8Array, name: string): Buffer {
  const spki = toSpki(Buffer.from(file));
  if (!spki) throw new Fault('SERVER_KEY_INVALID', `${name}: no public key in it`);
  const { asymmetricKeyType, asymmetricKeyDetails: details } = createPublicKey({
    key: spki,
    format: 'der',
    type: 'spki',
  });
  if (asymmetricKeyType !== 'rsa' || details?.modulusLength !== 2048 || details.publicExponent !== 65537n) {
    const bits = details?.modulusLength === undefined ? '' : `-${details.modulusLength}`;
    const exponent = details?.publicExponent === undefined ? '' : ` with e = ${details.publicExponent.toString()}`;
    throw new Fault(
      'SERVER_KEY_INVALID',
      `${name}: a key of type ${asymmetricKeyType ?? 'unknown'}${bits}${exponent}, not RSA-2048 with e = 65537`,
    );
  }
  if (spki.length !== SERVER_KEY_BYTES) {
    throw new Fault('SERVER_KEY_INVALID', `${name}: ${spki.length} bytes of DER, not ${SERVER_KEY_BYTES}`);
  }
  return spki;
}

function toSpki(file: Buffer): Buffer | null {
  const forms = file.includes('-----BEGIN')
    ? [{ key: file, format: 'pem' } as const]
    : [{ key: file, format: 'der', type: 'spki' } as const];
  for (const form of forms) {
    try {
      if (file.includes('PRIVATE KEY')) return null; // never derive from a private key that strayed here
      return createPublicKey(form).export({ format: 'der', type: 'spki' });
    } catch {
      // not this form
    }
  }
  return null;
}

function bigInteger(value: bigint): forge.jsbn.BigInteger {
  return new jsbn.BigInteger(value.toString(16), 16);
}
