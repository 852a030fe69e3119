import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { identityFileOf, makeIdentity, readIdentity } from '#src/vault/identity-file.ts';
import { Child } from '../support/children.ts';
import { modeOf, tempFolder } from '../support/temp-folder.ts';

describe("the station's identity file", () => {
  test('lies beside the database', () => {
    expect(identityFileOf('/srv/photon-fleet.db')).toBe('/srv/photon-fleet.identity');
    expect(identityFileOf('/srv/fleet.db/record')).toBe('/srv/fleet.db/record.identity');
  });

  test('is null where there is none', async () => {
    using folder = tempFolder();
    expect(await readIdentity(folder.file('a.identity'))).toBeNull();
  });

  test('is made 0600, is read as it was made, and leaves nothing beside it', async () => {
    using folder = tempFolder();
    const path = folder.file('a.identity');
    const made = await makeIdentity(path);
    expect(made.identity).toMatch(/^AGE-SECRET-KEY-1[0-9A-Z]{58}$/);
    expect(made.recipient).toMatch(/^age1[0-9a-z]{58}$/);
    expect(modeOf(path)).toBe('600');
    expect(await readIdentity(path)).toEqual(made);
    expect(readdirSync(folder.path)).toEqual(['a.identity']);
    expect(readFileSync(path, 'utf8')).toContain(`# public key: ${made.recipient}\n`);
  });

  test('is never made over another one, which is taken instead', async () => {
    using folder = tempFolder();
    const path = folder.file('a.identity');
    const first = await makeIdentity(path);
    const before = readFileSync(path);
    expect(await makeIdentity(path)).toEqual(first);
    expect(readFileSync(path)).toEqual(before);
    expect(readdirSync(folder.path)).toEqual(['a.identity']);
  });

  test('is one and the same for processes that make it at once', async () => {
    using folder = tempFolder();
    const path = folder.file('a.identity');
    const script = `const { makeIdentity } = await import(dist + 'vault/identity-file.js');
      console.log('ready'); await next();
      console.log(JSON.stringify(await makeIdentity(argv[0]))); process.exit();`;
    const children = Array.from({ length: 3 }, () => new Child(script, [path]));
    await Promise.all(children.map(child => child.printed(1)));
    for (const child of children) child.go();
    const made = await Promise.all(children.map(async child => (await child.ended())[1]));
    expect(new Set(made).size).toBe(1);
    expect(JSON.parse(made[0]!)).toEqual(await readIdentity(path));
    expect(readdirSync(folder.path)).toEqual(['a.identity']);
  });

  test.each([0o644, 0o640, 0o660, 0o777])(
    'that others can read (%i) is for its owner alone once it is read',
    async mode => {
      using folder = tempFolder();
      const path = folder.file('a.identity');
      const made = await makeIdentity(path);
      chmodSync(path, mode);
      expect(await readIdentity(path)).toEqual(made);
      expect(modeOf(path)).toBe('600');
    },
  );

  test('may have comments, blank lines and Windows line ends round its one identity', async () => {
    using folder = tempFolder();
    const made = await makeIdentity(folder.file('a.identity'));
    writeFileSync(folder.file('b.identity'), `# mine\r\n\r\n  ${made.identity}  \r\n`);
    expect(await readIdentity(folder.file('b.identity'))).toEqual(made);
  });
});

describe('an identity file that can not be used', () => {
  test('holds no identity', async () => {
    using folder = tempFolder();
    for (const content of ['', '# nothing\n', 'age1qqqq\n', 'hunter2\n']) {
      writeFileSync(folder.file('a'), content);
      await expect(readIdentity(folder.file('a'))).rejects.toMatchObject({
        code: 'VAULT_IDENTITY',
        message: `the identity file ${folder.file('a')} holds no age identity`,
      });
    }
  });

  test('holds a broken one, of which no word is said', async () => {
    using folder = tempFolder();
    const { identity } = await makeIdentity(folder.file('a'));
    const broken = identity.slice(0, -1) + (identity.endsWith('Q') ? 'P' : 'Q');
    for (const line of [broken, identity.slice(0, 40), 'AGE-SECRET-KEY-1HUNTER2', `${identity}${identity}`]) {
      writeFileSync(folder.file('b'), `${line}\n`);
      const thrown: unknown = await readIdentity(folder.file('b')).catch((error: unknown) => error);
      expect(thrown).toMatchObject({ code: 'VAULT_IDENTITY' });
      expect(inspect(thrown, { depth: 9 })).not.toContain(line.slice(16));
    }
  });

  test('is a folder, and keeps its mode', async () => {
    using folder = tempFolder();
    mkdirSync(folder.file('home'));
    chmodSync(folder.file('home'), 0o755);
    await expect(readIdentity(folder.file('home'))).rejects.toMatchObject({ code: 'VAULT_IDENTITY' });
    expect(modeOf(folder.file('home'))).toBe('755');
  });

  test('would lie in a folder that is not there', async () => {
    using folder = tempFolder();
    await expect(makeIdentity(folder.file('no/a.identity'))).rejects.toMatchObject({
      code: 'VAULT_IDENTITY',
      message: `the identity file ${folder.file('no/a.identity')} can't be made (ENOENT)`,
      hint: 'name a folder that you may write to with --db or `vault.identityFile`',
    });
  });

  test('is there already and holds none: it is not written over', async () => {
    using folder = tempFolder();
    writeFileSync(folder.file('a'), 'notes\n');
    await expect(makeIdentity(folder.file('a'))).rejects.toMatchObject({ code: 'VAULT_IDENTITY' });
    expect(readFileSync(folder.file('a'), 'utf8')).toBe('notes\n');
    expect(readdirSync(folder.path)).toEqual(['a']);
  });
});
