import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '#src/config/load-config.ts';
import { readToken } from '#src/config/token.ts';
import { Fault } from '#src/core/errors.ts';
import type { Secret } from '#src/core/secret.ts';

let cwd: string;
let warnings: string[];
beforeEach(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'token-'));
  warnings = [];
});
afterEach(() => rm(cwd, { recursive: true }));

/** The token as it is read where `cloud.tokenFile` is `file` in the configuration's third line. */
async function read(env: Record<string, string>, file: string | null = null): Promise<Secret<string> | null> {
  await writeFile(join(cwd, 'config.yaml'), `#\ncloud:\n  tokenFile: ${JSON.stringify(file)}\n`);
  return readToken(loadConfig({ flags: {}, env, cwd }), env, message => warnings.push(message));
}

async function fault(env: Record<string, string>, file: string | null = null): Promise<string> {
  const thrown = await read(env, file).catch((error: unknown) => error);
  if (!(thrown instanceof Fault)) throw new Error('no fault');
  const all = inspect(thrown, { depth: 5 });
  for (const secret of ['hunter2', cwd]) expect(all.split('\n    at ')[0]).not.toContain(secret);
  return `${thrown.code} ${thrown.message}`;
}

async function tokenFile(content: string | Buffer, mode = 0o600): Promise<string> {
  await writeFile(join(cwd, 'token'), content);
  await chmod(join(cwd, 'token'), mode);
  return 'token';
}

describe('the access token', () => {
  test('is null where nothing names one', async () => {
    expect(await read({})).toBeNull();
  });

  test('comes from PARTICLE_ACCESS_TOKEN before the file, and prints as a secret', async () => {
    const token = await read({ PARTICLE_ACCESS_TOKEN: ' hunter2\n' }, await tokenFile('other'));
    expect(token?.reveal()).toBe('hunter2');
    expect(inspect(token)).toBe('[secret]');
  });

  test('comes from the file, without the line end after it', async () => {
    const token = await read({}, await tokenFile('\ufeffhunter2\r\n'));
    expect(token?.reveal()).toBe('hunter2');
    expect(warnings).toEqual([]);
  });

  test('in a file that others can read is taken, with a warning', async () => {
    expect((await read({}, await tokenFile('hunter2', 0o640)))?.reveal()).toBe('hunter2');
    expect(warnings).toMatchInlineSnapshot(`
      [
        "the file of \`cloud.tokenFile\` (config.yaml:3) can be read or changed by other users (mode 0640): chmod 600 it",
      ]
    `);
  });

  test('that is empty is refused, naming the source', async () => {
    expect(await fault({ PARTICLE_ACCESS_TOKEN: '' })).toMatchInlineSnapshot(
      `"CONFIG_INVALID PARTICLE_ACCESS_TOKEN is empty: it should hold the access token"`,
    );
    expect(await fault({}, await tokenFile(' \n'))).toMatchInlineSnapshot(
      `"CONFIG_INVALID the file of \`cloud.tokenFile\` (config.yaml:3) is empty: it should hold the access token"`,
    );
  });

  test.each([
    ['a blank', 'hunter2 hunter3'],
    ['a line end', 'hunter2\nX-Evil: 1'],
    ['a control character', 'hunter2\u0007'],
    ['a letter beyond ASCII', 'hunter2é'],
    ['no end', 'hunter2'.repeat(2000)],
  ])('with %s is refused, and never shown', async (_, content) => {
    expect(await fault({}, await tokenFile(content))).toMatch(/^CONFIG_INVALID the file of .* holds no token: /);
    expect(await fault({ PARTICLE_ACCESS_TOKEN: content })).toMatch(
      /^CONFIG_INVALID PARTICLE_ACCESS_TOKEN holds no token: /,
    );
  });

  test('in place of the path of its file is not shown either', async () => {
    expect(await fault({}, 'hunter2')).toMatchInlineSnapshot(
      `"CONFIG_UNREADABLE the file of \`cloud.tokenFile\` (config.yaml:3) can't be read: there is no such file"`,
    );
    expect(await fault({}, '/')).toMatch(/^CONFIG_UNREADABLE .* can't be read: it is no regular file$/);
  });
});
