import { createPrivateKey } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalPrivateDer } from '#src/keys/canonical.ts';
import { publicKeyOf } from '#src/keys/public-key.ts';
import type { RsaPrivateNumbers } from '#src/keys/rsa-numbers.ts';
import { classifyPrivateKey, KEY_CLASSES } from '#src/photon/classify-key.ts';
import { makeMisreadRsa, makeReadableRsa, makeRsa } from '#src/sim/photon-rsa.ts';
import { inField, ORDINARY, ordinaryDer, rsaOf, SHORT } from '../support/rsa-pool.ts';

const PUBLIC = publicKeyOf(ORDINARY.n, ORDINARY.e);
const GARBAGE = Uint8Array.from({ length: 1216 }, (_, i) => (i * i * 31 + i * 7 + 5) & 0xff);

/** The field with `der` at its beginning and something else behind it. */
function followedBy(der: Uint8Array, rest: 'ff' | 'zeros' | 'garbage'): Buffer {
  const field = rest === 'garbage' ? Buffer.from(GARBAGE) : Buffer.alloc(1216, rest === 'ff' ? 0xff : 0);
  field.set(der);
  return field;
}

function pkcs8Of(key: RsaPrivateNumbers): Buffer {
  const privateKey = createPrivateKey({ key: ordinaryDer(key), format: 'der', type: 'pkcs1' });
  return privateKey.export({ format: 'der', type: 'pkcs8' });
}

function classOf(field: Uint8Array): string {
  return classifyPrivateKey(field).classification;
}

describe.each(['ff', 'zeros', 'garbage'] as const)('a key that is followed by %s', rest => {
  test('is readable, in canonical and in ordinary form', () => {
    for (const der of [canonicalPrivateDer(ORDINARY), ordinaryDer(ORDINARY)]) {
      expect(classifyPrivateKey(followedBy(der, rest))).toEqual({ classification: 'readable', publicKey: PUBLIC });
    }
  });

  test('is misread where a number is short, and its public half is known all the same', () => {
    for (const key of Object.values(SHORT)) {
      expect(classifyPrivateKey(followedBy(ordinaryDer(key), rest))).toEqual({
        classification: 'misread',
        publicKey: publicKeyOf(key.n, key.e),
      });
      expect(classOf(followedBy(canonicalPrivateDer(key), rest))).toBe('readable');
    }
  });

  test('is PKCS#8 as newer tools write it, and its public half is known all the same', () => {
    expect(classifyPrivateKey(followedBy(pkcs8Of(ORDINARY), rest))).toEqual({
      classification: 'pkcs8',
      publicKey: PUBLIC,
    });
  });

  test('is truncated, wherever it was cut', () => {
    for (const der of [canonicalPrivateDer(ORDINARY), ordinaryDer(ORDINARY), pkcs8Of(ORDINARY)]) {
      for (const length of [7, 8, 11, 100, 139, 277, 300, 512, 600, der.length - 2]) {
        expect(classifyPrivateKey(followedBy(der.subarray(0, length), rest))).toEqual({
          classification: 'truncated',
          publicKey: null,
        });
      }
    }
  });

  test('is other, where it was cut before it can be told that it was a key', () => {
    for (let length = 1; length < 6; length += 1) {
      expect(classOf(followedBy(canonicalPrivateDer(ORDINARY).subarray(0, length), rest))).toBe('other');
    }
  });
});

describe("the private key's field", () => {
  test('is blank where its first byte is 0xFF, whatever else it holds', () => {
    expect(classifyPrivateKey(Buffer.alloc(1216, 0xff))).toEqual({ classification: 'blank', publicKey: null });
    const field = inField(canonicalPrivateDer(ORDINARY));
    field[0] = 0xff;
    expect(classOf(field)).toBe('blank');
  });

  test('is zeros where the 612 bytes are that the firmware reads', () => {
    expect(classOf(Buffer.alloc(1216))).toBe('zeros');
    expect(classOf(Buffer.alloc(612))).toBe('zeros');
    const behind = Buffer.alloc(1216);
    behind[612] = 1;
    expect(classOf(behind)).toBe('zeros');
    const within = Buffer.alloc(1216);
    within[611] = 1;
    expect(classOf(within)).toBe('other');
  });

  test('is other where something else lies there', async () => {
    const { publicKey } = await makeRsa(1024);
    for (const bytes of [Buffer.from('-----BEGIN RSA PRIVATE KEY-----\nMIIC'), publicKey, Buffer.alloc(1216, 0x30)]) {
      expect(classifyPrivateKey(inField(bytes))).toEqual({ classification: 'other', publicKey: null });
    }
  });

  test('is misread where the key has another exponent or another size, since the firmware looks at neither', async () => {
    const { p, q } = ORDINARY;
    expect(classOf(inField(ordinaryDer(rsaOf(p, q, 17n))))).toBe('misread');
    const { privateKey } = await makeRsa(2048);
    expect(classOf(inField(privateKey))).toBe('misread');
  });

  test('is readable for a virtual device that works, whatever the first pairs were like', async () => {
    const misread = await makeMisreadRsa();
    expect(classOf(inField(misread.privateKey))).toBe('misread');
    const made = [misread, misread];
    const pair = await makeReadableRsa(async () => made.shift() ?? (await makeReadableRsa()));
    expect(made).toEqual([]);
    expect(classOf(inField(pair.privateKey))).toBe('readable');
  });

  test('is truncated where a number in it was changed', () => {
    const field = inField(canonicalPrivateDer(ORDINARY));
    field[300] = field[300]! ^ 1;
    expect(classifyPrivateKey(field)).toEqual({ classification: 'truncated', publicKey: null });
  });

  test('of any bytes has a class, and nothing is thrown', () => {
    const der = canonicalPrivateDer(ORDINARY);
    const field = fc.oneof(
      fc.uint8Array({ minLength: 612, maxLength: 1216 }),
      fc.array(fc.tuple(fc.nat(der.length - 1), fc.nat(255)), { maxLength: 3 }).map(changes => {
        const bytes = inField(der);
        for (const [at, value] of changes) bytes[at] = value;
        return bytes;
      }),
    );
    fc.assert(
      fc.property(field, bytes => {
        const { classification, publicKey } = classifyPrivateKey(bytes);
        expect(KEY_CLASSES).toContain(classification);
        expect(publicKey !== null).toBe(['readable', 'misread', 'pkcs8'].includes(classification));
      }),
      { numRuns: 200 },
    );
  });
});
