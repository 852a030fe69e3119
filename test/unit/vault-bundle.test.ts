import { hkdfSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Threads } from '#src/core/threads.ts';
import { chacha20poly1305, expand, hkdf, sha256 } from '#src/vault/age-primitives.ts';
import { localSealer } from '#src/vault/sealer.ts';
import { threadedSealer } from '#src/vault/threaded-sealer.ts';
import { newIdentity, recipientTextOf } from '#src/vault/x25519.ts';
import { projectFile } from '../support/project.ts';

/* Age's package as the bundle has it, over Node's own cryptography and with few of its streams, against the whole package. */

const [identity, other] = [newIdentity(), newIdentity()];
const recipients = [recipientTextOf(other), recipientTextOf(identity)];
const whole = localSealer();
const bundled = threadedSealer(new Threads(pathToFileURL(projectFile('dist/bundle/sealing-thread.js'))));

const CHUNK = 64 * 1024;
const SIZES = [0, 1, 713, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 200_000];

const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(randomBytes(length));

describe('sealing in the bundle', () => {
  test("takes nothing of the package's own cryptography", () => {
    const file = readFileSync(projectFile('dist/bundle/sealing-thread.cjs'), 'utf8');
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
  test('derive the keys that HKDF derives', () => {
    for (const length of [1, 16, 32]) {
      const [secret, salt, info] = [bytes(16), bytes(length), bytes(length)];
      const expected = new Uint8Array(hkdfSync('sha256', secret, salt, info, length));
      expect(hkdf(sha256, secret, salt, info, length)).toEqual(expected);
    }
    const unsalted = new Uint8Array(hkdfSync('sha256', Buffer.from('secret'), '', 'header', 32));
    expect(hkdf(sha256, Buffer.from('secret'), undefined, Buffer.from('header'), 32)).toEqual(unsalted);
    expect(() => expand(sha256, bytes(32), bytes(1), 33)).toThrow(RangeError);
  });

  test('open nothing that is too short for its tag', () => {
    expect(() => chacha20poly1305(bytes(32), bytes(12)).decrypt(bytes(15))).toThrow('length');
  });
});
