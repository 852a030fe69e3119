import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blockRange, composeBlock } from '#src/job/block.ts';
import type { JobPlan } from '#src/job/job.ts';
import type { ServerChange } from '#src/job/server-change.ts';
import { isUsable } from '#src/job/steps/new-key.ts';
import { canonicalPrivateDer } from '#src/keys/canonical.ts';
import type { KeyPair } from '#src/keys/make-key-pair.ts';
import { publicKeyOf } from '#src/keys/public-key.ts';
import type { RsaPrivateNumbers } from '#src/keys/rsa-numbers.ts';
import { DCT } from '#src/photon/dct.ts';
import { ORDINARY, ordinaryDer, SHORT } from '../support/rsa-pool.ts';

function pairOf(numbers: RsaPrivateNumbers): KeyPair {
  return { ...publicKeyOf(numbers.n, numbers.e), privateDer: canonicalPrivateDer(numbers) };
}

function planOf(newKey: boolean, server: Partial<ServerChange> = {}, claims = false): JobPlan {
  const change = { key: 'keep', host: null, port: null, ...server } as const;
  return { newKey, server: change, claims, writes: true, sends: newKey, leaves: true };
}

const change: fc.Arbitrary<Partial<ServerChange>> = fc.record({
  key: fc.constantFrom<ServerChange['key']>('keep', 'builtin', new Uint8Array(294).fill(0x30)),
  host: fc.constantFrom(null, '10.1.2.3', 'cloud.example', `${'a'.repeat(59)}.com`),
  port: fc.constantFrom(null, 1, 5683, 65534),
});
const plan = fc
  .record({ newKey: fc.boolean(), server: change, claims: fc.boolean() })
  .map(({ newKey, server, claims }) => planOf(newKey, server, claims));

const CODE = Buffer.from('abcDEF012+/'.repeat(6).slice(0, 63));

describe('the block that a job writes', () => {
  test.each([
    ['a key alone', planOf(true), [34, 1600]],
    ['a key and the server', planOf(true, { port: 1 }), [34, 2816]],
    ['the server alone', planOf(false, { key: 'builtin' }), [2082, 768]],
    ['a key and a claim code', planOf(true, {}, true), [34, 1791]],
    ['a claim code alone', planOf(false, {}, true), [1762, 63]],
    ['a claim code and the server', planOf(false, { key: 'builtin' }, true), [1762, 1088]],
    ['all of them', planOf(true, { port: 1 }, true), [34, 2816]],
  ] as const)('begins with the first field and ends with the last: %s', (_, of, [offset, length]) => {
    expect(blockRange(of)).toEqual({ offset, length });
  });

  test('never has more than 4096 bytes, and never comes near the version block at 8820', () => {
    fc.assert(
      fc.property(
        plan.filter(
          ({ newKey, server, claims }) =>
            newKey || claims || server.key !== 'keep' || server.host !== null || server.port !== null,
        ),
        each => {
          const { offset, length } = blockRange(each);
          expect(length).toBeGreaterThan(0);
          expect(length).toBeLessThanOrEqual(4096);
          expect(offset + length).toBeLessThanOrEqual(8391);
          expect(offset).toBeGreaterThanOrEqual(DCT.FLAGS.length);
        },
      ),
    );
  });

  test('leaves every byte alone that is in none of its fields', () => {
    const pair = pairOf(ORDINARY);
    const bytes = fc.uint8Array({ minLength: 64, maxLength: 64 });
    fc.assert(
      fc.property(plan, bytes, (each, seed) => {
        const { key, host, port } = each.server;
        if (!each.newKey && !each.claims && key === 'keep' && host === null && port === null) return;
        const dct = Buffer.from(Uint8Array.from({ length: DCT.LENGTH }, (_, i) => (seed[i % 64]! + i) & 0xff));
        const before = Buffer.from(dct);
        const { offset, old, next } = composeBlock(each, dct, each.newKey ? pair : null, each.claims ? CODE : null);
        expect(dct.equals(before)).toBe(true);
        expect(old.equals(dct.subarray(offset, offset + old.length))).toBe(true);
        expect(next.length).toBe(old.length);
        const owned = [
          ...(each.newKey ? [DCT.DEVICE_PRIVATE_KEY, DCT.DEVICE_PUBLIC_KEY] : []),
          ...(each.claims ? [DCT.CLAIM_CODE] : []),
          ...(key === 'builtin' ? [DCT.SERVER_PUBLIC_KEY] : []),
          ...(key instanceof Uint8Array ? [{ offset: 2082, length: 384 }] : []),
          ...(host === null ? [] : [DCT.SERVER_ADDRESS]),
          ...(port === null ? [] : [DCT.SERVER_PORT]),
        ];
        for (let at = 0; at < next.length; at += 1) {
          const mine = owned.some(field => offset + at >= field.offset && offset + at < field.offset + field.length);
          if (!mine && next[at] !== old[at]) throw new Error(`byte ${offset + at} was changed`);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('holds the claim code at 1762, and the very bytes that it had without one everywhere else', () => {
    const dct = Buffer.from(Uint8Array.from({ length: DCT.LENGTH }, (_, i) => (i * 31) & 0xff));
    const pair = pairOf(ORDINARY);
    const change = { port: 4711 };
    const { offset, next } = composeBlock(planOf(true, change, true), dct, pair, CODE);
    const { next: without } = composeBlock(planOf(true, change), dct, pair);
    const [from, to] = [1762 - offset, 1825 - offset];
    expect(next.subarray(from, to).equals(CODE)).toBe(true);
    expect(next.subarray(0, from).equals(without.subarray(0, from))).toBe(true);
    expect(next.subarray(to).equals(without.subarray(to))).toBe(true);
  });

  test('is not made without the claim code that it is to hold, or with one of another length', () => {
    const dct = Buffer.alloc(DCT.LENGTH);
    expect(() => composeBlock(planOf(false, {}, true), dct, null)).toThrow('without its claim code');
    expect(() => composeBlock(planOf(false, {}, true), dct, null, CODE.subarray(1))).toThrow('without its claim code');
  });

  test('holds the key in canonical form, and nothing of a longer one before it', () => {
    const dct = Buffer.alloc(DCT.LENGTH, 0x41);
    const pair = pairOf(SHORT.qp);
    const { next } = composeBlock(planOf(true), dct, pair);
    expect(next.subarray(0, 611).equals(pair.privateDer)).toBe(true);
    expect(next.subarray(611, 1216).every(byte => byte === 0xff)).toBe(true);
    expect(next.subarray(1216, 1216 + 162).equals(pair.spki)).toBe(true);
    expect(next.subarray(1216 + 162, 1600).every(byte => byte === 0xff)).toBe(true);
  });
});

describe('a key may be written', () => {
  test('where the firmware can read it', () => {
    for (const numbers of [ORDINARY, ...Object.values(SHORT)]) expect(isUsable(pairOf(numbers))).toBe(true);
  });

  test('but not in ordinary DER, nor with a public half that is not its own, nor with a wrong number', () => {
    const pair = pairOf(ORDINARY);
    expect(isUsable({ ...pair, privateDer: ordinaryDer(ORDINARY) })).toBe(false);
    expect(isUsable({ ...pairOf(SHORT.d), privateDer: pair.privateDer })).toBe(false);
    const broken = Buffer.from(pair.privateDer);
    broken[200] = broken[200]! ^ 1;
    expect(isUsable({ ...pair, privateDer: broken })).toBe(false);
  });
});
