import { describe, expect, test } from 'vitest';
import { canonicalPrivateDer } from '#src/keys/canonical.ts';
import { parsePrivateDer, type RsaPrivateNumbers } from '#src/keys/rsa-numbers.ts';
import { firmwareReads, readAsFirmware } from '#src/photon/firmware-key-reader.ts';
import { allKeys, inField, ORDINARY, ordinaryDer, SHORT, SHORT_AND_READABLE } from '../support/rsa-pool.ts';

/** Bytes of a number in DER, the zero before it counted. */
function bytesInDer(value: bigint): number {
  return Math.floor(value.toString(2).length / 8) + 1;
}

/** Whether ordinary DER has a number in fewer bytes than the firmware takes for it. */
function isShort({ d, dp, dq, qp }: RsaPrivateNumbers): boolean {
  return bytesInDer(d) < 128 || [dp, dq, qp].some(value => bytesInDer(value) < 64);
}

describe("the firmware's reader of keys", () => {
  test('reads every key in canonical form, with all its numbers', () => {
    for (const key of allKeys()) {
      const field = inField(canonicalPrivateDer(key));
      expect(readAsFirmware(field)).toEqual(key);
      expect(firmwareReads(field, key)).toBe(true);
    }
  });

  test('misreads those keys in ordinary DER, and only those, that have a short number', () => {
    const keys = allKeys();
    expect(keys.length).toBeGreaterThan(400);
    const misread = keys.filter(key => !firmwareReads(inField(ordinaryDer(key)), key));
    expect(misread).toEqual(keys.filter(isShort));
    expect(misread.length).toBeGreaterThan(20);
    expect(misread.length).toBeLessThan(keys.length / 4);
  });

  test.each(Object.entries(SHORT))('misreads ordinary DER with a short %s, which every parser takes', (_, key) => {
    const field = inField(ordinaryDer(key));
    expect(parsePrivateDer(field)?.numbers).toEqual(key);
    expect(firmwareReads(field, key)).toBe(false);
    expect(readAsFirmware(field)).not.toEqual(key);
  });

  test('reads a number of 63 bytes right where DER puts a zero before it', () => {
    expect(bytesInDer(SHORT_AND_READABLE.dp)).toBe(64);
    expect(firmwareReads(inField(ordinaryDer(SHORT_AND_READABLE)), SHORT_AND_READABLE)).toBe(true);
  });

  test('takes 612 bytes and looks at no more', () => {
    const der = canonicalPrivateDer(ORDINARY);
    expect(firmwareReads(inField(der, 0xff, 612), ORDINARY)).toBe(true);
    expect(readAsFirmware(inField(der, 0xff, 611))).toBeNull();
    expect(firmwareReads(der, ORDINARY)).toBe(false);
    for (const filler of [0, 0xff, 0x5a]) expect(firmwareReads(inField(der, filler), ORDINARY)).toBe(true);
  });

  test('finds that the key is not the one that was expected', () => {
    const field = inField(canonicalPrivateDer(ORDINARY));
    expect(firmwareReads(field, SHORT.d)).toBe(false);
  });

  test.each([20, 200, 300, 370, 430, 500, 600])('finds a flipped bit at byte %i', at => {
    const field = inField(canonicalPrivateDer(ORDINARY));
    field[at] = field[at]! ^ 0x10;
    expect(firmwareReads(field, ORDINARY)).toBe(false);
  });

  test.each([0, 0xff, 0x41])('makes nothing of a field of 0x%s', filler => {
    expect(firmwareReads(Buffer.alloc(1216, filler), ORDINARY)).toBe(false);
  });
});
