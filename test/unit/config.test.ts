import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Config, Environment } from '#src/config/config.ts';
import { CONFIG_KEYS, KEYS, envName, flagName, type KeySpec } from '#src/config/keys.ts';
import { loadConfig, type Flags } from '#src/config/load-config.ts';
import { ConfigFault } from '#src/config/problems.ts';
import { Fault } from '#src/core/errors.ts';

let cwd: string;
beforeEach(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'config-'));
});
afterEach(() => rm(cwd, { recursive: true }));

const load = (flags: Flags = {}, env: Environment = {}): Config => loadConfig({ flags, env, cwd });

async function loadFile(yaml: string | Buffer, flags: Flags = {}, env: Environment = {}): Promise<Config> {
  await writeFile(join(cwd, 'config.yaml'), yaml);
  return load(flags, env);
}

/** The message of the fault, with this test's own folder left out. */
function faultOf(act: () => unknown): string {
  try {
    act();
  } catch (thrown) {
    if (thrown instanceof Fault) return `${thrown.code} ${thrown.message.replaceAll(`${cwd}/`, '')}`;
    throw thrown;
  }
  throw new Error('no fault');
}

async function fileFault(yaml: string | Buffer): Promise<string> {
  await writeFile(join(cwd, 'config.yaml'), yaml);
  return faultOf(() => load());
}

describe('without a file, variables or flags', () => {
  test('every value is its default', () => {
    const { values, file, warnings } = load();
    expect(file).toBeNull();
    expect(warnings).toEqual([]);
    expect(values).toEqual({
      db: join(cwd, 'photon-fleet.db'),
      job: 'rekey',
      wait: 30,
      concurrency: 128,
      perHub: 64,
      maxFail: null,
      quarantineAfter: 3,
      racks: [],
      insecureRack: false,
      sockets: {},
      cloud: {
        url: 'https://api.particle.io',
        tokenFile: null,
        timeoutMs: 10_000,
        concurrency: 8,
        insecure: false,
        productId: null,
      },
      server: { key: 'keep', host: null, port: null },
      firmware: { systemPart1: null, systemPart2: null, userPart: null },
      vault: { policy: 'local', recipients: [], identityFile: null },
      audit: { checkpointDir: null, signingKeyFile: null },
      operator: null,
      log: null,
      verbose: false,
    });
  });

  test('the configuration is frozen through and through', () => {
    const config = load();
    expect(Object.isFrozen(config)).toBe(true);
    expect(() => Object.assign(config.values.cloud, { url: 'x' })).toThrow(TypeError);
    expect(() => (config.values.racks as string[]).push('x')).toThrow(TypeError);
    expect(() => Object.assign(config.values.sockets, { x: '1-1' })).toThrow(TypeError);
  });
});

describe('config.example.yaml', () => {
  const example = new URL('../../config.example.yaml', import.meta.url);

  test('sets every key there is to its default', async () => {
    const defaults = load().values;
    const config = await loadFile(await readFile(example));
    expect(config.values).toEqual(defaults);
    for (const key of CONFIG_KEYS) expect([key, config.sourceOf(key)]).toEqual([key, 'file']);
  });
});

describe('precedence', () => {
  test('a flag goes before a variable, a variable before the file, the file before the default', async () => {
    const yaml = 'wait: 1\nconcurrency: 2\nperHub: 3\n';
    const env = { PHOTON_FLEET_WAIT: '10', PHOTON_FLEET_CONCURRENCY: '20' };
    const config = await loadFile(yaml, { wait: 100 }, env);
    const { wait, concurrency, perHub } = config.values;
    expect([wait, concurrency, perHub]).toEqual([100, 20, 3]);
    const keys = ['wait', 'concurrency', 'perHub', 'job'] as const;
    expect(keys.map(key => config.sourceOf(key))).toEqual(['flag', 'environment', 'file', 'default']);
    expect(keys.map(key => config.describeSource(key))).toEqual([
      '--wait',
      'PHOTON_FLEET_CONCURRENCY',
      'config.yaml:3',
      'default',
    ]);
  });

  test('every key but the map of sockets has its variable and its flag', () => {
    expect(Object.fromEntries(CONFIG_KEYS.map(key => [envName(key), flagName(key)]))).toMatchInlineSnapshot(`
      {
        "PHOTON_FLEET_AUDIT_CHECKPOINT_DIR": "--audit-checkpoint-dir",
        "PHOTON_FLEET_AUDIT_SIGNING_KEY_FILE": "--audit-signing-key-file",
        "PHOTON_FLEET_CLOUD_CONCURRENCY": "--cloud-concurrency",
        "PHOTON_FLEET_CLOUD_INSECURE": "--cloud-insecure",
        "PHOTON_FLEET_CLOUD_PRODUCT_ID": "--cloud-product-id",
        "PHOTON_FLEET_CLOUD_TIMEOUT_MS": "--cloud-timeout-ms",
        "PHOTON_FLEET_CLOUD_TOKEN_FILE": "--cloud-token-file",
        "PHOTON_FLEET_CLOUD_URL": "--cloud-url",
        "PHOTON_FLEET_CONCURRENCY": "--concurrency",
        "PHOTON_FLEET_DB": "--db",
        "PHOTON_FLEET_FIRMWARE_SYSTEM_PART1": "--firmware-system-part1",
        "PHOTON_FLEET_FIRMWARE_SYSTEM_PART2": "--firmware-system-part2",
        "PHOTON_FLEET_FIRMWARE_USER_PART": "--firmware-user-part",
        "PHOTON_FLEET_INSECURE_RACK": "--insecure-rack",
        "PHOTON_FLEET_JOB": "--job",
        "PHOTON_FLEET_LOG": "--log",
        "PHOTON_FLEET_MAX_FAIL": "--max-fail",
        "PHOTON_FLEET_OPERATOR": "--operator",
        "PHOTON_FLEET_PER_HUB": "--per-hub",
        "PHOTON_FLEET_QUARANTINE_AFTER": "--quarantine-after",
        "PHOTON_FLEET_RACKS": "--rack",
        "PHOTON_FLEET_SERVER_HOST": "--server-host",
        "PHOTON_FLEET_SERVER_KEY": "--server-key",
        "PHOTON_FLEET_SERVER_PORT": "--server-port",
        "PHOTON_FLEET_SOCKETS": "--sockets",
        "PHOTON_FLEET_VAULT_IDENTITY_FILE": "--vault-identity-file",
        "PHOTON_FLEET_VAULT_POLICY": "--vault-policy",
        "PHOTON_FLEET_VAULT_RECIPIENTS": "--vault-recipients",
        "PHOTON_FLEET_VERBOSE": "--verbose",
        "PHOTON_FLEET_WAIT": "--wait",
      }
    `);
    expect(CONFIG_KEYS.filter(key => (KEYS[key] as KeySpec).fileOnly)).toEqual(['sockets']);
  });

  test('every variable is read into the type of its key', () => {
    const { values } = load(
      {},
      {
        PHOTON_FLEET_DB: 'a.db',
        PHOTON_FLEET_JOB: 'jobs/mine.yaml',
        PHOTON_FLEET_WAIT: '2.5',
        PHOTON_FLEET_MAX_FAIL: '12.5%',
        PHOTON_FLEET_RACKS: 'Bench:3240, [::1]:3241,bench:3240',
        PHOTON_FLEET_INSECURE_RACK: 'yes',
        PHOTON_FLEET_CLOUD_URL: 'HTTP://Localhost:8080/api//',
        PHOTON_FLEET_CLOUD_PRODUCT_ID: '42',
        PHOTON_FLEET_CLOUD_INSECURE: '0',
        PHOTON_FLEET_SERVER_KEY: 'builtin',
        PHOTON_FLEET_SERVER_HOST: 'Cloud.Example',
        PHOTON_FLEET_SERVER_PORT: '5683',
        PHOTON_FLEET_VERBOSE: 'ON',
      },
    );
    expect(values).toMatchObject({
      db: join(cwd, 'a.db'),
      job: join(cwd, 'jobs/mine.yaml'),
      wait: 2.5,
      maxFail: { percent: 12.5 },
      racks: ['bench:3240', '[::1]:3241'],
      insecureRack: true,
      cloud: { url: 'http://localhost:8080/api', productId: '42', insecure: false },
      server: { key: 'builtin', host: 'cloud.example', port: 5683 },
      verbose: true,
    });
  });

  test('an empty variable is as good as none', () => {
    expect(load({}, { PHOTON_FLEET_WAIT: ' ', PHOTON_FLEET_CLOUD_URL: '' }).sourceOf('wait')).toBe('default');
  });

  test('flags may be of their type already, or texts', () => {
    const { values } = load({ wait: '7', racks: ['a:1', 'b:2'], maxFail: 3, verbose: true, db: undefined });
    expect(values).toMatchObject({ wait: 7, racks: ['a:1', 'b:2'], maxFail: { count: 3 }, verbose: true });
  });
});

describe('paths', () => {
  test('in a file count from its folder, in flags and variables from the working directory', async () => {
    await mkdir(join(cwd, 'etc'));
    const path = join(cwd, 'etc', 'fleet.yaml');
    await writeFile(path, 'db: ../x.db\njob: ./j.yaml\nserver: {key: keys/server.pem}\nlog: /var/log/fleet.log\n');
    const config = load({ config: 'etc/fleet.yaml', 'vault.identityFile': 'id' });
    expect(config.file).toBe(path);
    expect(config.values).toMatchObject({
      db: join(cwd, 'x.db'),
      job: join(cwd, 'etc/j.yaml'),
      server: { key: join(cwd, 'etc/keys/server.pem') },
      vault: { identityFile: join(cwd, 'id') },
      log: '/var/log/fleet.log',
    });
    expect(config.describeSource('server.key')).toBe('etc/fleet.yaml:3');
  });

  test('a file elsewhere is named whole', async () => {
    const config = await loadFile('wait: 1\n');
    const inside = await mkdtemp(join(cwd, 'below-'));
    const again = loadConfig({ flags: { config: config.file ?? '' }, env: {}, cwd: inside });
    expect(again.describeSource('wait')).toBe(`${config.file ?? ''}:1`);
    expect(again.values.db).toBe(join(inside, 'photon-fleet.db'));
    expect(dirname(again.file ?? '')).toBe(cwd);
  });

  test('PHOTON_FLEET_CONFIG names a file too', async () => {
    await writeFile(join(cwd, 'other.yaml'), 'wait: 9');
    expect(load({}, { PHOTON_FLEET_CONFIG: 'other.yaml' }).values.wait).toBe(9);
  });
});

describe('what is wrong', () => {
  test('is told all at once: file, variables and flags', async () => {
    const yaml = `
wait: soon
concurency: 5
perHub: 0
maxFail: 101%
racks: [bench:3240, nowhere]
insecureRack: 1
sockets:
  A-01: 3-1.1
  1-2: 3-1.2
  A-03: somewhere
cloud:
  token: abcdef
  time_out_ms: 5
  timeoutMs: 99
  url: ftp://user:hunter2@host
server:
  host: 10.0.0.300
  port: 65535
tokenFile: x
vault: 5
db:
`;
    await writeFile(join(cwd, 'config.yaml'), yaml);
    const env = {
      PHOTON_FLEET_VERBOSE: 'maybe',
      PHOTON_FLEET_CLOUD_URL: 'https://u:hunter2@x',
      PHOTON_FLEET_RACKS: 'a',
    };
    const message = faultOf(() => load({ wait: NaN, concurrency: 1.5, racks: ['a:1', 'b:99999'] }, env));
    expect(message).not.toContain('hunter2');
    expect(message).not.toContain('abcdef');
    expect(message).toMatchInlineSnapshot(`
      "CONFIG_INVALID 23 problems in the configuration
        config.yaml:2:7: \`wait\` must be a number of seconds from 0 to 2000000, is "soon"
        config.yaml:3:1: unknown key "concurency": did you mean \`concurrency\`?
        config.yaml:4:9: \`perHub\` must be a whole number from 1 to 255, is 0
        config.yaml:5:10: \`maxFail\` must be a count of devices such as 5, or a part of them such as 10%, is "101%"
        config.yaml:6:21: \`racks\` must be a list of HOST:PORT; item 2 is "nowhere"
        config.yaml:7:15: \`insecureRack\` must be true or false, is 1
        config.yaml:10:8: \`sockets\`: "1-2" can't be the name of a socket
        config.yaml:11:9: \`sockets\` must be a map from names to USB paths, such as {A-04: 3-1.4}; "A-03" is "somewhere"
        config.yaml:13:3: unknown key "cloud.token": the token itself is never kept here; name a file in \`cloud.tokenFile\`, or set PARTICLE_ACCESS_TOKEN
        config.yaml:14:3: unknown key "cloud.time_out_ms": did you mean \`cloud.timeoutMs\`?
        config.yaml:15:14: \`cloud.timeoutMs\` must be a whole number of milliseconds from 100 to 120000, is 99
        config.yaml:16:8: \`cloud.url\` must be an http:// or https:// URL without user name, password, query or fragment
        config.yaml:18:9: \`server.host\` must be an IPv4 address, or a domain of at most 63 characters, is "10.0.0.300"
        config.yaml:19:9: \`server.port\` must be a whole number from 1 to 65534, is 65535
        config.yaml:20:1: unknown key "tokenFile": did you mean \`cloud.tokenFile\`?
        config.yaml:21:8: \`vault\` must be a map of keys (policy, recipients, identityFile), is 5
        config.yaml:22:1: \`db\` must be a path, is empty
        --wait: \`wait\` must be a number of seconds from 0 to 2000000, is NaN
        --concurrency: \`concurrency\` must be a whole number from 1 to 1024, is 1.5
        PHOTON_FLEET_RACKS: \`racks\` must be a list of HOST:PORT; item 1 is "a"
        --rack: \`racks\` must be a list of HOST:PORT; item 2 is "b:99999"
        PHOTON_FLEET_CLOUD_URL: \`cloud.url\` must be an http:// or https:// URL without user name, password, query or fragment
        PHOTON_FLEET_VERBOSE: \`verbose\` must be true or false, is "maybe""
    `);
  });

  test('comes as data too', async () => {
    await writeFile(join(cwd, 'config.yaml'), 'wait: -1\n');
    let fault: unknown;
    try {
      load();
    } catch (thrown) {
      fault = thrown;
    }
    expect(fault).toBeInstanceOf(ConfigFault);
    expect((fault as ConfigFault).problems).toEqual([
      {
        where: 'config.yaml:1:7',
        key: 'wait',
        message: '`wait` must be a number of seconds from 0 to 2000000, is -1',
      },
    ]);
  });

  test.each([
    ['a list', '- a\n'],
    ['a word', 'hello\n'],
  ])('is a file that holds %s', async (_, yaml) => {
    expect(await fileFault(yaml)).toMatch(
      /^CONFIG_INVALID config\.yaml:1:1: the configuration must be a map of keys and values, is /,
    );
  });

  test('is two sockets of one name or one path, and a socket called __proto__ is one like any other', async () => {
    expect(await fileFault('sockets:\n  A: 3-1.1\n  B: 3-1.1\n')).toMatchInlineSnapshot(
      `"CONFIG_INVALID config.yaml:3:6: \`sockets\`: the socket of "B" has another name already"`,
    );
    expect(await fileFault('sockets:\n  A: 3-1.1\n  A: 3-1.2\n')).toMatchInlineSnapshot(
      `"CONFIG_INVALID config.yaml:3:3: Map keys must be unique"`,
    );
    const { values } = await loadFile('sockets:\n  __proto__: 3-1.1\n');
    expect(Object.entries(values.sockets)).toEqual([['__proto__', '3-1.1']]);
  });

  test('is a key called __proto__', async () => {
    expect(await fileFault('__proto__: {wait: 5}\n')).toMatchInlineSnapshot(
      `"CONFIG_INVALID config.yaml:1:1: unknown key "__proto__""`,
    );
  });

  test('is YAML that can not be read, and the line is not quoted', async () => {
    const message = await fileFault('cloud:\n  url: "https://hunter2\nwait: [1\n');
    expect(message).not.toContain('hunter2');
    expect(message).toMatchInlineSnapshot(`"CONFIG_INVALID config.yaml:4:1: Missing closing "quote"`);
  });

  test.each([
    ['several documents', 'wait: 1\n---\nwait: 2\n'],
    ['an unknown tag', 'wait: !secret 1\n'],
    ['an alias without an anchor', 'wait: *w\n'],
    [
      'a bomb of aliases',
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
        .split('')
        .map(
          (name, n) =>
            `${name}: &${name} [${Array(9)
              .fill(`*${'abcdefgh'.charAt(n)}`)
              .join(',')}]\n`,
        )
        .join('')}`,
    ],
  ])('is YAML with %s', async (_, yaml) => {
    expect(await fileFault(yaml)).toMatch(/^CONFIG_INVALID config\.yaml:\d+:\d+: /);
  });

  test('is a file that is named and not there, and no other', () => {
    expect(faultOf(() => load({ config: 'none.yaml' }))).toBe(
      "CONFIG_UNREADABLE none.yaml: the configuration can't be read: there is no such file",
    );
  });

  test('is a file that is a folder, a device or no text', async () => {
    expect(faultOf(() => load({ config: '.' }))).toMatch(/^CONFIG_UNREADABLE .*: it is a folder$/);
    expect(faultOf(() => load({ config: '/dev/null' }))).toMatch(/^CONFIG_UNREADABLE .*: it is no regular file$/);
    expect(await fileFault(Buffer.from([0x61, 0xff]))).toMatch(/^CONFIG_UNREADABLE .*: it is not UTF-8$/);
  });

  test('is not an empty file, nor one whose sections are empty, and null is none', async () => {
    expect((await loadFile('')).sourceOf('wait')).toBe('default');
    expect((await loadFile('\ufeff# nothing\ncloud:\nserver:\n  # key: keep\n')).values.server.key).toBe('keep');
    expect((await loadFile('maxFail: null\nserver: {host: ~}\n')).values).toMatchObject({ maxFail: null });
  });
});

describe('unknown variables', () => {
  test('are warned of, without their values', () => {
    const { warnings } = load(
      {},
      {
        PHOTON_FLEET_CONCURENCY: 'hunter2',
        PHOTON_FLEET_SOCKETS: 'hunter2',
        PHOTON_FLEET_CLOUD_TOKEN: 'hunter2',
        PHOTON_FLEET_WHATEVER: 'hunter2',
        PHOTON: 'other',
      },
    );
    expect(warnings).toMatchInlineSnapshot(`
      [
        "PHOTON_FLEET_CLOUD_TOKEN is unknown and has no effect: the token comes from PARTICLE_ACCESS_TOKEN",
        "PHOTON_FLEET_CONCURENCY is unknown and has no effect: did you mean PHOTON_FLEET_CONCURRENCY?",
        "PHOTON_FLEET_SOCKETS is unknown and has no effect: \`sockets\` can be set in the file alone",
        "PHOTON_FLEET_WHATEVER is unknown and has no effect",
      ]
    `);
  });
});
