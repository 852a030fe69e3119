import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { makeIdentity } from '#src/vault/identity-file.ts';
import { envelope, unwrapEnvelope, type About } from '#src/vault/sealed.ts';
import { vaultOf, type Vault } from '#src/vault/vault.ts';
import { tempFolder } from '../support/temp-folder.ts';

const DEVICE = parseDeviceId('0123456789abcdef01234567')!;
const OTHER = parseDeviceId('0123456789abcdef01234568')!;
const KEY: About = { purpose: 'private-key', deviceId: DEVICE, generation: 3, fingerprint: 'ab'.repeat(32), at: 1 };
const BACKUP: About = { purpose: 'backup', deviceId: DEVICE, generation: null, fingerprint: null, at: 2 };
const BYTES = Buffer.from('SECRET-BYTES-OF-A-KEY');

async function newVault(): Promise<Vault> {
  const identity = await generateX25519Identity();
  return vaultOf({ identity, recipient: await identityToRecipient(identity) });
}

describe('a sealed item', () => {
  let vault: Vault;
  beforeAll(async () => {
    vault = await newVault();
  });

  test('gives back what was sealed, whatever the bytes', async () => {
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.constant(new Uint8Array(8391).fill(10)));
    await fc.assert(
      fc.asyncProperty(bytes, fc.constantFrom(KEY, BACKUP), async (plain, about) => {
        const sealed = await vault.seal(plain, about);
        expect(Buffer.from(await vault.open(sealed, about))).toEqual(Buffer.from(plain));
      }),
      { numRuns: 12 },
    );
  });

  test('shows nothing of what is in it, and is another one each time', async () => {
    const [one, two] = await Promise.all([vault.seal(BYTES, KEY), vault.seal(BYTES, KEY)]);
    for (const text of [BYTES.toString(), DEVICE, 'private-key']) expect(Buffer.from(one).includes(text)).toBe(false);
    expect(Buffer.from(one).equals(two)).toBe(false);
  });

  test('leaves the bytes of the caller as they were', async () => {
    const bytes = Buffer.from(BYTES);
    await vault.seal(bytes, KEY);
    expect(bytes).toEqual(BYTES);
  });

  test('is opened by nobody else', async () => {
    const sealed = await vault.seal(BYTES, KEY);
    await expect((await newVault()).open(sealed, KEY)).rejects.toMatchObject({
      code: 'VAULT_SEALED_WRONG',
      message: `a sealed item of device ${DEVICE} can't be opened`,
    });
  });

  test.each([
    ['deviceId', { deviceId: OTHER }],
    ['generation', { generation: 4 }],
    ['generation', { generation: null }],
    ['purpose', { purpose: 'backup' }],
    ['fingerprint', { fingerprint: 'cd'.repeat(32) }],
    ['fingerprint', { fingerprint: null }],
  ] as const)('in the row of another one is found by its %s', async (name, row) => {
    const expected = { ...KEY, ...row };
    const thrown: unknown = await vault.open(await vault.seal(BYTES, KEY), expected).catch((error: unknown) => error);
    expect(thrown).toMatchObject({
      code: 'VAULT_SEALED_WRONG',
      message: `a sealed item of device ${expected.deviceId} is another one's (${name})`,
    });
    expect(inspect(thrown, { depth: 9 })).not.toContain('SECRET-BYTES');
  });

  test('that was damaged anywhere is not opened', async () => {
    const sealed = await vault.seal(BYTES, KEY);
    for (let at = 0; at < sealed.length; at += 23) {
      const damaged = Uint8Array.from(sealed);
      damaged[at] = damaged[at]! ^ 1;
      await expect(vault.open(damaged, KEY)).rejects.toMatchObject({ code: 'VAULT_SEALED_WRONG' });
    }
    for (const cut of [0, 10, sealed.length - 1]) {
      await expect(vault.open(sealed.subarray(0, cut), KEY)).rejects.toMatchObject({ code: 'VAULT_SEALED_WRONG' });
    }
  });
});

describe('what is inside the seal', () => {
  test('is a line that names the form, a line that says what it is, and the bytes', () => {
    expect(envelope(BACKUP, Buffer.from('\nx\n')).toString()).toBe(
      `photon-fleet sealed 1\n{"purpose":"backup","deviceId":"${DEVICE}","generation":null,"fingerprint":null,"at":2}\n\nx\n`,
    );
  });

  test.each([
    ['nothing', '', 'a sealed item has none of our forms'],
    ['another form', 'photon-fleet sealed 2\n{}\n', 'a sealed item has none of our forms'],
    ['no second line', 'photon-fleet sealed 1\n{}', 'a sealed item has none of our forms'],
    ['no JSON', 'photon-fleet sealed 1\nhello\n', 'a sealed item does not say what it is'],
    ['a number', 'photon-fleet sealed 1\n5\n', 'a sealed item does not say what it is'],
    ['null', 'photon-fleet sealed 1\nnull\n', 'a sealed item does not say what it is'],
    ['an empty object', 'photon-fleet sealed 1\n{}\n', `a sealed item of device ${DEVICE} is another one's (purpose)`],
  ])('is refused where it is %s', (_, plain, message) => {
    expect(() => unwrapEnvelope(Buffer.from(plain), KEY)).toThrow(
      expect.objectContaining({ code: 'VAULT_SEALED_WRONG', message }),
    );
  });
});

const hasAge = spawnSync('age', ['--version']).error === undefined;

describe.skipIf(!hasAge)('the `age` program', () => {
  test('opens what the vault has sealed, with the identity file of the station', async () => {
    using folder = tempFolder();
    const vault = vaultOf(await makeIdentity(folder.file('a.identity')));
    const input = await vault.seal(BYTES, KEY);
    const { stdout, status } = spawnSync('age', ['-d', '-i', folder.file('a.identity')], { input });
    expect(status).toBe(0);
    expect(stdout.equals(envelope(KEY, BYTES))).toBe(true);
  });

  test('seals to the recipient of the station what the vault can open', async () => {
    using folder = tempFolder();
    const identity = await makeIdentity(folder.file('a.identity'));
    const vault = vaultOf(identity);
    writeFileSync(folder.file('plain'), envelope(BACKUP, BYTES));
    const { stdout } = spawnSync('age', ['-r', identity.recipient, folder.file('plain')]);
    expect(await vault.open(stdout, BACKUP)).toEqual(BYTES);
  });
});
