import { mkdirSync, writeFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { readIdentity } from '#src/vault/identity-file.ts';
import { envelope, unwrapEnvelope, type About } from '#src/vault/sealed.ts';
import { vaultOf, type Vault } from '#src/vault/vault.ts';
import { endOf, endOfAsync, expectCode, fuzz, mutated, PRINTABLE, textOf } from '../support/fuzz.ts';
import { modeOf, tempFolder } from '../support/temp-folder.ts';

const DEVICE = parseDeviceId('0123456789abcdef01234567')!;
const ABOUT: About = { purpose: 'private-key', deviceId: DEVICE, generation: 3, fingerprint: 'ab'.repeat(32), at: 1 };
/** What the row of such an item knows: not when it was sealed. */
const ROW = { purpose: 'private-key', deviceId: DEVICE, generation: 3, fingerprint: 'ab'.repeat(32) };
const BYTES = Buffer.from('SECRET-BYTES-OF-A-KEY');

let folder: ReturnType<typeof tempFolder>;
let vault: Vault;
let sealed: Uint8Array;
let identities: string[];
beforeAll(async () => {
  folder = tempFolder();
  const identity = await generateX25519Identity();
  vault = vaultOf({ identity, recipient: await identityToRecipient(identity) });
  sealed = await vault.seal(BYTES, ABOUT);
  identities = [identity, await generateHybridIdentity()];
});
afterAll(() => folder[Symbol.dispose]());

test('a sealed item with any bytes changed is opened to what was sealed, or VAULT_SEALED_WRONG', async () => {
  const tokens = [
    'age-encryption.org/v1\n',
    '-> X25519 ',
    '-> scrypt AAAAAAAAAAAAAAAAAAAAAA 60\n',
    '-> grease\n\n',
    '---',
    '\n',
    'A'.repeat(65),
  ];
  const items = fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }) },
    { weight: 1, arbitrary: textOf(tokens, 8).map(text => Buffer.from(text)) },
    { weight: 6, arbitrary: mutated(sealed, tokens) },
  );
  await fuzz(items, 300, async item => {
    const end = await endOfAsync(() => vault.open(item, ABOUT));
    if ('value' in end) expect(end.value.equals(BYTES)).toBe(true);
    else expectCode(end.fault, 'VAULT_SEALED_WRONG');
  });
});

test('what lies inside a seal is what its row says, or VAULT_SEALED_WRONG without a word of it', async () => {
  const tokens = [
    'photon-fleet sealed 1\n',
    '\n',
    '{',
    '}',
    '[]',
    'null',
    '"purpose":"backup"',
    '"__proto__":',
    '{"at":1}',
    '['.repeat(500),
  ];
  const plain = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes)),
    mutated(envelope(ABOUT, BYTES), tokens),
    fc
      .tuple(fc.jsonValue({ maxDepth: 2 }), fc.uint8Array({ maxLength: 9 }))
      .map(([about, bytes]) =>
        Buffer.concat([Buffer.from(`photon-fleet sealed 1\n${JSON.stringify(about)}\n`), bytes]),
      ),
  );
  await fuzz(plain, 2000, bytes => {
    const end = endOf(() => unwrapEnvelope(bytes, ABOUT));
    if ('value' in end) {
      const head = bytes.subarray(0, bytes.length - end.value.length).toString();
      const [magic, about, rest] = head.split('\n');
      expect([magic, rest]).toEqual(['photon-fleet sealed 1', '']);
      expect(JSON.parse(about!)).toMatchObject(ROW);
      return;
    }
    expectCode(end.fault, 'VAULT_SEALED_WRONG');
    expect(inspect(end.fault, { depth: 9 })).not.toContain('SECRET-BYTES');
  });
});

test('an identity file of any bytes holds an identity that opens what is sealed to it, or is refused without a word of it', async () => {
  const file = folder.file('station.identity');
  const tokens = [
    'AGE-SECRET-KEY-1',
    'AGE-SECRET-KEY-PQ-1',
    'AGE-PLUGIN-X-1',
    'age1',
    '\n',
    '\r\n',
    ' ',
    '#',
    '\0',
    '\ufeff',
    'é',
  ];
  const files = fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes)) },
    { weight: 1, arbitrary: textOf(tokens, 8).map(text => Buffer.from(text)) },
    ...identities.map(identity => ({
      weight: 3,
      arbitrary: mutated(Buffer.from(`# made for this test\n${identity}\n`), tokens),
    })),
  );
  await fuzz(files, 400, async bytes => {
    writeFileSync(file, bytes, { mode: 0o644 });
    const end = await endOfAsync(() => readIdentity(file));
    expect(modeOf(file)).toBe('600');
    if ('fault' in end) {
      expectCode(end.fault, 'VAULT_IDENTITY');
      expect(end.fault.message).toMatch(PRINTABLE);
      expect(end.fault.message).toMatch(/station\.identity holds no (valid )?age identity$/);
      expect(inspect(end.fault, { depth: 9 })).not.toMatch(/AGE-SECRET-KEY-(PQ-)?1/);
      return;
    }
    expect(end.value?.recipient).toMatch(/^age1[a-z0-9]+$/);
    const own = vaultOf(end.value!);
    expect((await own.open(await own.seal(BYTES, ABOUT), ABOUT)).equals(BYTES)).toBe(true);
  });
});

test('an identity file that is a folder is VAULT_IDENTITY, and one that is not there is none', async () => {
  mkdirSync(folder.file('a-folder'));
  await expect(readIdentity(folder.file('a-folder'))).rejects.toMatchObject({ code: 'VAULT_IDENTITY' });
  expect(await readIdentity(folder.file('nothing'))).toBeNull();
});
