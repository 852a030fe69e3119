import { createPrivateKey } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  bigintFromBytes,
  bigintToBytes,
  isConsistent,
  parsePrivateDer,
  type RsaPrivateNumbers,
} from '#src/keys/rsa-numbers.ts';
import { allKeys, inField, ORDINARY, ordinaryDer, rsaOf, SHORT } from '../support/rsa-pool.ts';

const NAMES = ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qp'] as const satisfies readonly (keyof RsaPrivateNumbers)[];

function pkcs8Of(key: RsaPrivateNumbers): Buffer {
  return createPrivateKey({ key: ordinaryDer(key), format: 'der', type: 'pkcs1' }).export({
    format: 'der',
    type: 'pkcs8',
  });
}

describe('a number in bytes', () => {
  test('is big endian, at the width that was asked for', () => {
    expect(bigintToBytes(0x0102n, 4).toString('hex')).toBe('00000102');
    expect(bigintFromBytes(Uint8Array.of(0, 1, 2))).toBe(0x0102n);
    expect(bigintFromBytes(new Uint8Array(0))).toBe(0n);
  });

  test('comes back as it was', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 1024n) - 1n }), value => {
        expect(bigintFromBytes(bigintToBytes(value, 128))).toBe(value);
      }),
    );
  });

  test('that does not fit, or is negative, is refused', () => {
    expect(() => bigintToBytes(256n, 1)).toThrow('the number does not fit into 1 bytes');
    expect(() => bigintToBytes(-1n, 4)).toThrow(RangeError);
  });
});

describe('the numbers of a key belong together', () => {
  test('in every key of the pool', () => {
    expect(allKeys().filter(key => !isConsistent(key))).toEqual([]);
  });

  test.each(NAMES)('no more, once a bit of %s is wrong', name => {
    for (let bit = 0n; bit < (name === 'e' ? 17n : 512n); bit += 13n) {
      expect(isConsistent({ ...ORDINARY, [name]: ORDINARY[name] ^ (1n << bit) })).toBe(false);
    }
  });

  test.each(NAMES)('no more, where %s is 0, 1 or that of another key', name => {
    for (const value of [0n, 1n, name === 'e' ? 3n : SHORT.qp[name] + 2n]) {
      expect(isConsistent({ ...ORDINARY, [name]: value })).toBe(false);
    }
  });

  test('no more, where P and Q have changed places', () => {
    const { p, q } = ORDINARY;
    expect(isConsistent({ ...ORDINARY, p: q, q: p })).toBe(false);
    expect(isConsistent(rsaOf(q, p))).toBe(true);
  });

  test('not in a key of nothing but small numbers', () => {
    expect(isConsistent({ n: 1n, e: 1n, d: 1n, p: 1n, q: 1n, dp: 0n, dq: 0n, qp: 0n })).toBe(false);
    expect(isConsistent({ n: 0n, e: 0n, d: 0n, p: 0n, q: 0n, dp: 0n, dq: 0n, qp: 0n })).toBe(false);
  });
});

describe('a private key in DER', () => {
  test('is read from PKCS#1 and from PKCS#8', () => {
    expect(parsePrivateDer(ordinaryDer(ORDINARY))).toEqual({ form: 'pkcs1', numbers: ORDINARY });
    expect(parsePrivateDer(pkcs8Of(ORDINARY))).toEqual({ form: 'pkcs8', numbers: ORDINARY });
    for (const key of Object.values(SHORT)) expect(parsePrivateDer(ordinaryDer(key))?.numbers).toEqual(key);
  });

  test.each([0xff, 0, 0x30])('is read whatever follows it (0x%s)', filler => {
    for (const der of [ordinaryDer(ORDINARY), pkcs8Of(ORDINARY)]) {
      expect(parsePrivateDer(inField(der, filler))?.numbers).toEqual(ORDINARY);
    }
  });

  test('is none where its numbers do not belong together', () => {
    for (const name of NAMES) {
      expect(parsePrivateDer(ordinaryDer({ ...ORDINARY, [name]: ORDINARY[name] + 2n }))).toBeNull();
    }
  });

  test('is none at any length but its own', () => {
    const der = ordinaryDer(ORDINARY);
    for (let length = 0; length < der.length; length += 1) expect(parsePrivateDer(der.subarray(0, length))).toBeNull();
  });

  test('is none in any bytes that are no key, and nothing is thrown', () => {
    const der = ordinaryDer(ORDINARY);
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 700 }),
      fc.uint8Array({ maxLength: 700 }).map(rest => Buffer.concat([Buffer.of(0x30, 0x82, 2, 0x5b, 2, 1, 0), rest])),
      fc.tuple(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, change]) => {
        const broken = Buffer.from(der);
        broken[at] = broken[at]! ^ change;
        return broken;
      }),
    );
    fc.assert(
      fc.property(bytes, each => {
        const parsed = parsePrivateDer(each);
        if (parsed) expect(parsed.numbers).toEqual(ORDINARY); // its version is not looked at
      }),
      { numRuns: 300 },
    );
  });

  test('nested ten thousand levels deep is none', () => {
    const deep = Buffer.concat(Array.from({ length: 10_000 }, () => Buffer.of(0x30, 0x80)));
    expect(parsePrivateDer(deep)).toBeNull();
  });
});
