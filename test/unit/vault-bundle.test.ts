import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { stationThreads } from '#src/core/threads.ts';
import { chacha20poly1305, hkdf, sha256 } from '#src/vault/age-primitives.ts';
import { localSealer } from '#src/vault/sealer.ts';
import { threadedSealer } from '#src/vault/threaded-sealer.ts';
import { newIdentity, recipientTextOf } from '#src/vault/x25519.ts';
import { projectFile } from '../support/project.ts';

/* Age's package as the bundle has it, over Node's own cryptography and with few of its streams, against the whole package. */

const [identity, other] = [newIdentity(), newIdentity()];
const recipients = [recipientTextOf(other), recipientTextOf(identity)];
const whole = localSealer();
const thread = stationThreads.take();
const bundled = threadedSealer(thread.connect('sealing'));
afterAll(() => thread.end());

const CHUNK = 64 * 1024;
const SIZES = [0, 1, 713, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 200_000];

const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(randomBytes(length));

describe('sealing in the bundle', () => {
  test("takes nothing of the package's own cryptography", () => {
    const file = readFileSync(projectFile('dist/bundle/station-thread.cjs'), 'utf8');
    expect(file).toContain('age-encryption.org/v1');
    expect(file).not.toMatch(/noble|TransformStream\$?\d* extends|node:stream\/web/);
  });

  test.each(SIZES)('is opened by the package, and opens what the package sealed (%i bytes)', async size => {
    const plain = bytes(size);
    const there = await bundled.seal(recipients, plain.slice());
    expect(await whole.open([identity], there)).toEqual({ plain });
    const here = await whole.seal(recipients, plain.slice());
    expect(await bundled.open([identity], here)).toEqual({ plain });
    expect(there.length).toBe(here.length);
    expect(there).not.toEqual(await bundled.seal(recipients, plain.slice()));
  });

  test('opens nothing of which a bit is another, as the package does', async () => {
    const sealed = await bundled.seal(recipients, bytes(100));
    for (let at = 0; at < sealed.length; at += 1) {
      const damaged = sealed.slice();
      damaged[at]! ^= 1 << (at % 8);
      const [here, there] = [await whole.open([identity], damaged), await bundled.open([identity], damaged)];
      expect({ at, ...there }).toEqual({ at, ...here });
      expect(there.plain).toBe(null);
    }
  });

  test('opens nothing that was cut short, or lengthened, at a chunk or elsewhere', async () => {
    const sealed = await bundled.seal(recipients, bytes(2 * CHUNK));
    const ends = [sealed.length - 1, sealed.length - 16, sealed.length - 17, sealed.length - CHUNK - 16, 300, 20, 0];
    const wrong = [...ends.map(end => sealed.slice(0, end)), new Uint8Array([...sealed, 0])];
    for (const item of wrong) {
      const [here, there] = [await whole.open([identity], item), await bundled.open([identity], item)];
      expect(there).toEqual(here);
      expect(there.plain).toBe(null);
    }
  });
});

describe('the primitives', () => {
  // RFC 5869, A.1 and A.3.
  test.each([
    {
      salt: '000102030405060708090a0b0c',
      info: 'f0f1f2f3f4f5f6f7f8f9',
      key: '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    },
    {
      salt: undefined,
      info: '',
      key: '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    },
  ])('derive the keys that HKDF derives (salt: $salt)', ({ salt, info, key }) => {
    const from = (hex: string): Buffer => Buffer.from(hex, 'hex');
    const secret = from('0b'.repeat(22));
    const derived = (length: number): string =>
      Buffer.from(hkdf(sha256, secret, salt === undefined ? undefined : from(salt), from(info), length)).toString(
        'hex',
      );
    for (const length of [1, 16, 32, 42]) expect(derived(length)).toBe(key.slice(0, 2 * length));
  });

  test('open nothing that is too short for its tag', () => {
    expect(() => chacha20poly1305(bytes(32), bytes(12)).decrypt(bytes(15))).toThrow('length');
  });
});
