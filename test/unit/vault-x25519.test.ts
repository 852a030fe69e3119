import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient, Stanza } from 'age-encryption';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { identityOf, newIdentity, recipientOf, recipientTextOf } from '#src/vault/x25519.ts';

const FILE_KEY = new Uint8Array(16).fill(7);

/** Other points than those of the curve's large group: what they make of any key is zero. */
const SMALL_ORDER = [Buffer.alloc(32), Buffer.from('01'.padEnd(64, '0'), 'hex')];

describe('an identity and its recipient', () => {
  test('are what the package makes of them', async () => {
    for (let n = 0; n < 8; n += 1) {
      const theirs = await generateX25519Identity();
      expect(recipientTextOf(theirs)).toBe(await identityToRecipient(theirs));
      const ours = newIdentity();
      expect(ours).toMatch(/^AGE-SECRET-KEY-1[0-9A-Z]{58}$/);
      expect(await identityToRecipient(ours)).toBe(recipientTextOf(ours));
    }
  });

  test('seal and open what the package opens and seals, whatever the bytes', async () => {
    const identity = newIdentity();
    const recipient = recipientTextOf(identity);
    const [ours, theirs] = [new Encrypter(), new Encrypter()];
    ours.addRecipient(recipientOf(recipient));
    theirs.addRecipient(recipient);
    const [opensOurs, opensTheirs] = [new Decrypter(), new Decrypter()];
    opensOurs.addIdentity(identity);
    opensTheirs.addIdentity(identityOf(identity));
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async bytes => {
        expect(await opensOurs.decrypt(await ours.encrypt(bytes))).toEqual(bytes);
        expect(await opensTheirs.decrypt(await theirs.encrypt(bytes))).toEqual(bytes);
      }),
      { numRuns: 20 },
    );
  });

  test('wrap a key anew each time', async () => {
    const recipient = recipientOf(recipientTextOf(newIdentity()));
    const [one, two] = [await recipient.wrapFileKey(FILE_KEY), await recipient.wrapFileKey(FILE_KEY)];
    expect(one[0]!.args[1]).not.toBe(two[0]!.args[1]);
    expect(one[0]!.body).not.toEqual(two[0]!.body);
  });
});

describe('what is no key', () => {
  const recipient = recipientTextOf(newIdentity());
  const identity = newIdentity();
  const flip = (text: string, at: number): string =>
    text.slice(0, at) + (text[at] === 'q' ? 'p' : 'q') + text.slice(at + 1);

  test('is refused as a recipient', () => {
    for (const text of ['', 'age1', 'hunter2', identity, recipient.slice(0, -1), `${recipient}q`, 'age1pqqqqq']) {
      expect(() => recipientOf(text)).toThrow();
    }
  });

  test('is refused as a recipient with any one letter changed', () => {
    for (let at = 4; at < recipient.length; at += 1) expect(() => recipientOf(flip(recipient, at))).toThrow();
  });

  test('is refused as an identity', () => {
    for (const text of ['', recipient, identity.toLowerCase(), identity.slice(0, -1), flip(identity, 30)]) {
      expect(() => identityOf(text)).toThrow();
    }
  });

  test('of a small order is refused, by the one who seals and by the one who opens', async () => {
    for (const point of SMALL_ORDER) {
      const share = point.toString('base64').replace(/=+$/, '');
      const stanza = new Stanza(['X25519', share], new Uint8Array(32));
      await expect(async () => identityOf(identity).unwrapFileKey([stanza])).rejects.toThrow();
    }
    const { bech32 } = await import('@scure/base');
    const zero = bech32.encodeFromBytes('age', SMALL_ORDER[0]!);
    await expect(async () => recipientOf(zero).wrapFileKey(FILE_KEY)).rejects.toThrow();
  });
});

describe('a header', () => {
  const identity = newIdentity();
  const unwrap = async (stanzas: Stanza[]): Promise<Uint8Array | null> => identityOf(identity).unwrapFileKey(stanzas);

  test('of several recipients is opened by each of them, and by nobody else', async () => {
    const identities = [newIdentity(), newIdentity(), newIdentity()];
    const stanzas: Stanza[] = [];
    for (const one of identities) stanzas.push(...(await recipientOf(recipientTextOf(one)).wrapFileKey(FILE_KEY)));
    for (const one of identities)
      expect(Uint8Array.from((await identityOf(one).unwrapFileKey(stanzas))!)).toEqual(FILE_KEY);
    expect(await unwrap(stanzas)).toBeNull();
  });

  test('of another type is passed over', async () => {
    expect(
      await unwrap([new Stanza(['scrypt', 'a', '18'], new Uint8Array(32)), new Stanza([], new Uint8Array(32))]),
    ).toBeNull();
  });

  test.each([
    ['no share', ['X25519'], 32],
    ['two shares', ['X25519', 'AA', 'AA'], 32],
    ['a short share', ['X25519', 'AAAA'], 32],
    ['a share that is no base64', ['X25519', '!'.repeat(43)], 32],
    ['a long body', ['X25519', Buffer.alloc(32, 9).toString('base64').slice(0, 43)], 33],
    ['an empty body', ['X25519', Buffer.alloc(32, 9).toString('base64').slice(0, 43)], 0],
  ])('with %s is refused', async (_, args, length) => {
    await expect(unwrap([new Stanza(args, new Uint8Array(length))])).rejects.toThrow();
  });
});
