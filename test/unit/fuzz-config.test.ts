import { readFileSync, writeFileSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Config } from '#src/config/config.ts';
import { CONFIG_KEYS, envName } from '#src/config/keys.ts';
import { loadConfig, type ConfigInput, type Flags } from '#src/config/load-config.ts';
import { isSocketName, parseCloudUrl, parseProductId, parseRack } from '#src/config/parsers.ts';
import { readToken } from '#src/config/token.ts';
import { parseServerHost } from '#src/core/hosts.ts';
import { parseUsbPath } from '#src/core/usb-path.ts';
import {
  endOf,
  expectCode,
  fuzz,
  mutated,
  PRINTABLE,
  textOf,
  written,
  YAML_TOKENS,
  yamlBombs,
  yamlValue,
} from '../support/fuzz.ts';
import { tempFolder } from '../support/temp-folder.ts';

let folder: ReturnType<typeof tempFolder>;
beforeAll(() => {
  folder = tempFolder();
});
afterAll(() => folder[Symbol.dispose]());

const EXAMPLE = readFileSync(new URL('../../config.example.yaml', import.meta.url));
const SHORT = `db: a.db
racks: [rack-pi:3240, "[::1]:3240"]
sockets: {A-01: 3-1.1, A-02: 3-1.2}
maxFail: 10%
cloud:
  url: https://api.example.org:8443/base
  productId: 12345
server: {key: builtin, host: example.org, port: 5683}
`;
const TOKENS = [
  ...YAML_TOKENS,
  ...CONFIG_KEYS.map(key => `${key.split('.').at(-1) ?? ''}: `),
  'cloud:\n  ',
  'server: ',
  'accessToken: ',
  '3-1.4',
  'rack:3240',
  '[::1]:0',
  '5%',
  '101%',
  '0.5',
  'https://a@b/',
  'https://x.example.org',
  '10.0.0.300',
];

function expectValid(config: Config): void {
  const { db, job, wait, concurrency, perHub, maxFail, quarantineAfter, racks, sockets, cloud, server, vault, log } =
    config.values;
  const paths = [
    db,
    cloud.tokenFile,
    vault.identityFile,
    log,
    ...(/^(keep|builtin)$/.test(server.key) ? [] : [server.key]),
  ];
  for (const path of paths) if (path !== null) expect(isAbsolute(path)).toBe(true);
  expect(job).toMatch(PRINTABLE);
  expect(job.trim()).not.toBe('');
  expect(wait >= 0 && wait <= 2_000_000).toBe(true);
  for (const [number, least, most] of [
    [concurrency, 1, 1024],
    [perHub, 1, 255],
    [quarantineAfter, 0, 1000],
    [cloud.timeoutMs, 100, 120_000],
    [cloud.concurrency, 1, 64],
    [server.port ?? 1, 1, 65_534],
  ] as const) {
    expect(Number.isInteger(number) && number >= least && number <= most).toBe(true);
  }
  if (maxFail && 'percent' in maxFail) expect(maxFail.percent >= 0 && maxFail.percent <= 100).toBe(true);
  else if (maxFail) expect(Number.isInteger(maxFail.count) && maxFail.count >= 0).toBe(true);
  expect(racks.map(parseRack)).toEqual(racks);
  expect(new Set(racks).size).toBe(racks.length);
  for (const [name, path] of Object.entries(sockets))
    expect([isSocketName(name), parseUsbPath(path)]).toEqual([true, path]);
  expect(new Set(Object.values(sockets)).size).toBe(Object.keys(sockets).length);
  expect(parseCloudUrl(cloud.url)).toBe(cloud.url);
  if (cloud.productId !== null) expect(parseProductId(cloud.productId)).toBe(cloud.productId);
  if (server.host !== null) expect(parseServerHost(server.host)).toBe(server.host);
  for (const key of CONFIG_KEYS) expect(config.describeSource(key)).not.toBe('');
  for (const warning of config.warnings) expect(warning).toMatch(PRINTABLE);
  expect(Object.isFrozen(config.values)).toBe(true);
}

function check({ file = '', ...input }: Partial<ConfigInput> & { readonly file?: string | Uint8Array }): void {
  writeFileSync(folder.file('config.yaml'), file);
  const end = endOf(() => loadConfig({ flags: {}, env: {}, cwd: folder.path, ...input }));
  if ('value' in end) {
    expectValid(end.value);
    return;
  }
  expectCode(end.fault, 'CONFIG_INVALID', 'CONFIG_UNREADABLE');
  for (const line of end.fault.message.split('\n')) expect(line).toMatch(PRINTABLE);
}

test('a configuration of random bytes is read within its bounds, or refused', async () => {
  await fuzz(fc.uint8Array({ maxLength: 100 }), 200, file => check({ file }));
});

test('a configuration of the words and marks of YAML is read within its bounds, or refused', async () => {
  await fuzz(textOf(TOKENS, 40), 1000, file => check({ file }));
});

test('a good configuration with some bytes changed is read within its bounds, or refused', async () => {
  const changed = fc.constantFrom(EXAMPLE, Buffer.from(SHORT)).chain(base => mutated(base, TOKENS));
  await fuzz(changed, 1000, file => check({ file }));
});

test('a configuration whose values are anything that YAML can write is read within its bounds, or refused', async () => {
  const key = fc.constantFrom(...CONFIG_KEYS, 'cloud', 'server', 'vault', 'unknown');
  const lines = fc.array(fc.tuple(key, yamlValue), { maxLength: 6 }).map(pairs =>
    pairs
      .map(([name, value]) => {
        const [section, inner] = name.split('.');
        return inner === undefined ? `${name}: ${value}\n` : `${section}:\n  ${inner}: ${value}\n`;
      })
      .join(''),
  );
  await fuzz(lines, 1000, file => check({ file }));
});

test('a configuration that is nested thousands of times over, or repeats itself without end, is refused in short time', async () => {
  const place = fc.constantFrom('', 'sockets: ', 'racks: ', 'cloud:\n  url: ');
  await fuzz(fc.tuple(yamlBombs, place), 60, ([bomb, before]) => check({ file: before + written(bomb) }));
});

const words = fc.oneof(
  textOf(
    [...TOKENS, '1', '0', '-', '.', '%', 'true', 'off', ' ', 'keep', 'rekey', './x.yaml', '9'.repeat(20), 'Infinity'],
    4,
  ),
  fc.constantFrom('30', '5%', '101%', 'yes', 'rack:3240,other:1', 'https://x.example.org/', '10.0.0.1', 'builtin'),
);

test('variables and flags of any text are read within their bounds, or refused', async () => {
  const variables = fc.array(
    fc.tuple(
      fc.oneof(
        { weight: 9, arbitrary: fc.constantFrom(...CONFIG_KEYS.map(envName), 'PHOTON_FLEET_CONFIG') },
        fc.string({ maxLength: 8 }).map(name => `PHOTON_FLEET_${name}`),
      ),
      words,
    ),
    { maxLength: 4 },
  );
  // As yargs gives them: a text, texts where the flag was given twice, true or false.
  const given = fc.oneof(words, fc.array(words, { maxLength: 3 }), fc.boolean());
  const flags = fc.dictionary(fc.constantFrom(...CONFIG_KEYS), given, { maxKeys: 4 });
  const inputs = fc.tuple(
    variables,
    flags,
    fc.option(fc.constantFrom<unknown>('config.yaml', ['a', 'b'], 'none.yaml', '.', '', 'a\0b'), { nil: undefined }),
  );
  await fuzz(inputs, 1500, ([pairs, some, config]) => {
    const env = Object.fromEntries(pairs);
    check({ env, flags: { ...some, ...(config !== undefined && { config }) } as Flags });
  });
});

test('a token of any bytes, from a variable or a file, fits into a header, or is refused without a word of it', async () => {
  const token = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    mutated(Buffer.from(' 0123456789abcdef0123456789abcdef01234567\n')),
  );
  writeFileSync(folder.file('config.yaml'), 'cloud: {tokenFile: token}\n');
  const config = loadConfig({ flags: {}, env: {}, cwd: folder.path });
  await fuzz(fc.tuple(token, fc.boolean()), 500, ([bytes, inFile]) => {
    writeFileSync(folder.file('token'), bytes, { mode: 0o600 });
    const text = Buffer.from(bytes).toString('utf8');
    const end = endOf(() => readToken(config, inFile ? {} : { PARTICLE_ACCESS_TOKEN: text }));
    if ('value' in end) {
      expect(end.value?.reveal()).toMatch(/^[\x21-\x7e]+$/);
      return;
    }
    expectCode(end.fault, 'CONFIG_INVALID');
    expect(end.fault.message).toMatch(
      /^(PARTICLE_ACCESS_TOKEN|the file of `cloud.tokenFile` \(config.yaml:1\)) (is empty|holds no token)/,
    );
  });
});
