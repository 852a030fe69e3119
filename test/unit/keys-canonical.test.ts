import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import forge from 'node-forge';
import { describe, expect, test } from 'vitest';
import { CANONICAL_PRIVATE_BYTES, canonicalPrivateDer, readPrivateDer } from '#src/keys/canonical.ts';
import { makeKeyPair } from '#src/keys/make-key-pair.ts';
import { publicKeyOf } from '#src/keys/public-key.ts';
import { bigintFromBytes, parsePrivateDer, type RsaPrivateNumbers } from '#src/keys/rsa-numbers.ts';
import { allKeys, ORDINARY, ordinaryDer, rsaOf, SHORT, SHORT_AND_READABLE } from '../support/rsa-pool.ts';

const NAMED = [
  ['ordinary', ORDINARY],
  ['short, with a zero before it in DER', SHORT_AND_READABLE],
  ...Object.entries(SHORT).map(([name, key]) => [`short: ${name}`, key] as const),
] as const;

describe('the canonical form of a private key', () => {
  test('is 611 bytes for every key, and gives back its numbers', () => {
    for (const key of allKeys()) {
      const der = canonicalPrivateDer(key);
      expect(der.length).toBe(CANONICAL_PRIVATE_BYTES);
      expect(parsePrivateDer(der)).toEqual({ form: 'pkcs1', numbers: key });
    }
  });

  test('is read by its places as any parser of DER reads it, with other bytes behind it and with any byte changed', () => {
    for (const key of allKeys()) {
      const der = canonicalPrivateDer(key);
      expect(readPrivateDer(Buffer.concat([der, Buffer.alloc(605, 0xff)]))).toEqual(parsePrivateDer(der));
      expect(readPrivateDer(ordinaryDer(key))).toEqual({ form: 'pkcs1', numbers: key });
    }
    const der = canonicalPrivateDer(ORDINARY);
    for (let at = 0; at < der.length; at += 1) {
      const changed = Buffer.from(der);
      changed[at]! ^= 1;
      expect([at, readPrivateDer(changed)]).toEqual([at, parsePrivateDer(changed)]);
    }
    for (let length = 0; length < der.length; length += 1) expect(readPrivateDer(der.subarray(0, length))).toBeNull();
  });

  test.each(NAMED)('is a valid key for node:crypto (%s)', (_, key) => {
    const privateKey = createPrivateKey({ key: canonicalPrivateDer(key), format: 'der', type: 'pkcs1' });
    const text = Buffer.from('proof');
    const publicKey = createPublicKey({ key: publicKeyOf(key.n, key.e).spki, format: 'der', type: 'spki' });
    expect(verify('sha256', text, publicKey, sign('sha256', text, privateKey))).toBe(true);
    expect(privateKey.export({ format: 'der', type: 'pkcs1' })).toEqual(ordinaryDer(key));
  });

  test.each(NAMED)('is a valid key for forge (%s)', (_, key) => {
    const asn1 = forge.asn1.fromDer(canonicalPrivateDer(key).toString('binary'));
    const parsed = forge.pki.privateKeyFromAsn1(asn1);
    expect(parsed.n.toString(16)).toBe(key.n.toString(16));
    expect(parsed.qInv.toString(16)).toBe(key.qp.toString(16));
  });

  test.each([
    ['d', 128, 127],
    ['d, by two bytes', 128, 126],
    ['dp', 64, 63],
    ['dq', 64, 63],
    ['qp', 64, 63],
    ['qp, by two bytes', 64, 62],
  ] as const)('keeps the leading zeros of a short %s, which ordinary DER drops', (name, width, bytes) => {
    const key = SHORT[name];
    const value = key[name.split(',')[0] as keyof RsaPrivateNumbers];
    expect(Math.ceil(value.toString(2).length / 8)).toBe(bytes);
    expect(ordinaryDer(key).length).toBeLessThan(ordinaryDer(ORDINARY).length);
    const der = canonicalPrivateDer(key);
    const at = { d: 148, dp: 413, dq: 480, qp: 547 }[name.split(',')[0] as 'd' | 'dp' | 'dq' | 'qp'];
    expect([...der.subarray(at - 1, at + width - bytes)].every(byte => byte === 0)).toBe(true);
    expect(bigintFromBytes(der.subarray(at, at + width))).toBe(value);
  });

  test('has every number at its one place, with one zero before it', () => {
    const der = canonicalPrivateDer(ORDINARY);
    expect(der.subarray(0, 11).toString('hex')).toBe('3082025f02010002818100');
    const numberAt = (at: number, length: number): bigint => bigintFromBytes(der.subarray(at, at + length));
    const { n, d, p, q, dp, dq, qp } = ORDINARY;
    expect([numberAt(11, 128), numberAt(148, 128)]).toEqual([n, d]);
    expect([279, 346, 413, 480, 547].map(at => numberAt(at, 64))).toEqual([p, q, dp, dq, qp]);
  });

  test('is refused to keys that are not RSA-1024 with e = 65537', () => {
    const { p, q } = ORDINARY;
    expect(() => canonicalPrivateDer(rsaOf(p, q, 17n))).toThrow('the public exponent is not 65537');
    expect(() => canonicalPrivateDer({ ...ORDINARY, n: ORDINARY.n >> 1n })).toThrow('does not have 1024 bits');
    expect(() => canonicalPrivateDer({ ...ORDINARY, n: ORDINARY.n << 8n })).toThrow('does not have 1024 bits');
    expect(() => canonicalPrivateDer({ ...ORDINARY, d: 1n << 1024n })).toThrow('longer than 128 bytes');
    expect(() => canonicalPrivateDer({ ...ORDINARY, p: 1n << 512n })).toThrow('longer than 64 bytes');
    expect(() => canonicalPrivateDer({ ...ORDINARY, qp: 1n << 520n })).toThrow('does not fit into 65 bytes');
    expect(() => canonicalPrivateDer({ ...ORDINARY, dq: -1n })).toThrow(RangeError);
  });
});

describe('a fresh key pair', () => {
  test('is canonical, and its public half is that of its private one, in every form', async () => {
    const pair = await makeKeyPair();
    expect(pair.privateDer.length).toBe(611);
    const { numbers } = parsePrivateDer(pair.privateDer)!;
    expect(numbers.e).toBe(65537n);
    expect(numbers.n.toString(2).length).toBe(1024);
    expect(publicKeyOf(numbers.n, numbers.e)).toMatchObject({ fingerprint: pair.fingerprint, pem: pair.pem });
    const privateKey = createPrivateKey({ key: pair.privateDer, format: 'der', type: 'pkcs1' });
    expect(createPublicKey(privateKey).export({ format: 'pem', type: 'spki' })).toBe(pair.pem);
  });

  test('is another one each time', async () => {
    const pairs = await Promise.all([makeKeyPair(), makeKeyPair()]);
    expect(new Set(pairs.map(({ fingerprint }) => fingerprint)).size).toBe(2);
  });
});
