import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { coreDumpCheck } from '#src/cli/examine-core-dumps.ts';
import { bigintToBytes, parsePrivateDer } from '#src/keys/rsa-numbers.ts';
import { Bench, closed, csvOf } from '../support/cli.ts';
import { dctInFolder } from '../support/flash-file.ts';

/** After every fault of the rack, under each policy: no byte of a key, of the token or of a Wi-Fi setting is anywhere. */

const TOKEN = 'a-token-that-nobody-may-read-4711';
const FAULTS = [
  ...['old-bootloader', 'p1', 'no-dct-id', 'dct-zeros', 'write-stall', 'write-drop', 'write-flip', 'read-unstable'],
  ...[
    'power-cut:old',
    'power-cut:new',
    'hang:upload:2',
    'hang-until-reset:dnload',
    'unplug:dnload',
    'bounce:upload:2:200',
  ],
  ...[
    'start-state:15',
    'start-state:10',
    'no-serial',
    'blank-key',
    'zero-key',
    'pkcs8-key',
    'truncated-key',
    'misread-key',
  ],
  ...['other-product', 'descriptor:truncated', 'late-access:100', 'stuck-busy'],
];
const COUNT = FAULTS.length + 4;

const bench = new Bench();
/** What processes were given as arguments, and all that they said. */
let heard = '';
let seconds: string[] = [];
beforeAll(async () => {
  const faults = FAULTS.flatMap((fault, index) => ['--fault', `#${index + 1}:${fault}`]);
  const args = ['rack', '--state', 'rack', '--count', String(COUNT), '--hubs', '4', '--write-ms', '5'];
  const rack = await bench.serve([...args, ...faults, '--listen', '127.0.0.1:0']);
  const cloudFaults = ['flaky:40', `device:${rack.devices.at(-1)!.deviceId}:status:403`];
  const cloud = await bench.serve([
    ...['cloud', '--listen', '127.0.0.1:0'],
    ...cloudFaults.flatMap(fault => ['--fault', fault]),
  ]);
  bench.file('rack.csv', csvOf(rack.devices));
  const env = { PARTICLE_ACCESS_TOKEN: TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url, TMPDIR: bench.folder };
  seconds = secretsOn();
  const recipients = (await ageRecipients(2)).join(',');
  for (const policy of ['local', 'escrow', 'none']) {
    const vault = {
      PHOTON_FLEET_VAULT_POLICY: policy,
      PHOTON_FLEET_VAULT_RECIPIENTS: policy === 'escrow' ? recipients : '',
    };
    const own = { ...env, ...(policy === 'escrow' ? vault : { PHOTON_FLEET_VAULT_POLICY: policy }) };
    const db = ['--db', `${policy}.db`];
    const run = [
      'run',
      'rack.csv',
      '--rack',
      rack.address,
      '--wait',
      '1',
      '--verbose',
      '--log',
      `${policy}.log`,
      ...db,
    ];
    await hear([...run, '--json'], own);
    seconds.push(...secretsOn());
    if (policy === 'none') continue;
    await hear(run, own);
    await hear(['replay', '--now', ...db], own);
    await hear(['db', 'check', ...db], own);
    await hear(['audit', 'export', '-o', `${policy}.ndjson`, ...db], own);
    await hear(['history', rack.devices[0]!.deviceId, '--json', ...db], own);
    await hear(['doctor', ...db], own);
  }
  seconds.push(...secretsOn());
}, 600_000);
afterAll(() => bench[Symbol.asyncDispose]());

async function ageRecipients(count: number): Promise<string[]> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption');
  return Promise.all(Array.from({ length: count }, async () => identityToRecipient(await generateX25519Identity())));
}

async function hear(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const child = bench.start(args, env);
  heard += readFileSync(`/proc/${child.pid}/cmdline`, 'latin1');
  child.stdout?.on('data', (piece: Buffer) => (heard += piece.toString('latin1')));
  child.stderr?.on('data', (piece: Buffer) => (heard += piece.toString('latin1')));
  const code = await closed(child);
  expect({ args, code, said: code === 1 ? heard.slice(-2000) : '' }).not.toMatchObject({ code: 1 });
}

/** Sixteen bytes out of the middle of each secret number of each key that lies on a device, as text of one byte each. */
function secretsOn(): string[] {
  const found: string[] = [];
  for (let index = 1; index <= COUNT; index += 1) {
    let der: Buffer;
    try {
      der = dctInFolder(bench.path('rack'), index).dct.subarray(34, 34 + 1216);
    } catch {
      continue; // broken system parts, another product
    }
    const numbers = parsePrivateDer(der)?.numbers;
    if (!numbers) continue;
    for (const name of ['d', 'p', 'q', 'dp', 'dq', 'qp'] as const) {
      const number = bigintToBytes(numbers[name], name === 'd' ? 128 : 64);
      found.push(number.toString('latin1', 20, 36));
    }
  }
  return found;
}

/** Raw, in hex of either case, and in base64 at each of its three alignments. */
function forms(secret: string): string[] {
  const bytes = Buffer.from(secret, 'latin1');
  const base64 = [0, 1, 2].map(shift => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
    return text.slice(shift === 0 ? 0 : shift + 1, Math.floor(((shift + bytes.length) * 8) / 6) - 1);
  });
  const url = base64.map(text => text.replaceAll('+', '-').replaceAll('/', '_'));
  return [secret, bytes.toString('hex'), bytes.toString('hex').toUpperCase(), ...base64, ...url];
}

/** A working identity stays as long as something of its run is open: here, devices that could not be finished. */
const SECRET_BY_NATURE = /\.(identity|signing-key|working-\d+)$/;

/** Everything that the station left behind, the rack's own flash and the secret files by their nature left out. */
function leftBehind(): { name: string; text: string }[] {
  const walk = (folder: string): string[] =>
    readdirSync(folder).flatMap(name => {
      const path = join(folder, name);
      if (statSync(path).isDirectory()) return name === 'rack' ? [] : walk(path);
      return SECRET_BY_NATURE.test(name) ? [] : [path];
    });
  const files = walk(bench.folder).map(name => ({ name, text: readFileSync(name, 'latin1') }));
  return [...files, { name: 'what was said and given as arguments', text: heard }];
}

describe('after every fault of the rack', () => {
  test('nothing of a private key, of the token or of a Wi-Fi setting is left, in any form', () => {
    const left = leftBehind();
    expect(left.length).toBeGreaterThan(8);
    expect(seconds.length).toBeGreaterThan(200);
    const secrets = [...new Set(seconds), TOKEN, 'WIFI-SECRET', 'AGE-SECRET-KEY-'];
    const found: string[] = [];
    for (const secret of secrets) {
      for (const form of forms(secret)) {
        for (const { name, text } of left) if (text.includes(form)) found.push(`${name}: ${form.slice(0, 6)}…`);
      }
    }
    expect(found).toEqual([]);
  });

  test('and that search finds what there is to find', () => {
    const [secret] = seconds as [string];
    const planted = [secret, Buffer.from(secret, 'latin1').toString('hex')];
    for (const shift of [0, 1, 2, 3]) {
      planted.push(Buffer.from(`${'x'.repeat(shift)}${secret}yy`, 'latin1').toString('base64'));
    }
    for (const text of planted) expect(forms(secret).some(form => `…${text}…`.includes(form))).toBe(true);
  });

  test('every file that the program made is for its user alone', () => {
    const open = readdirSync(bench.folder)
      .filter(name => /\.(db|db-wal|db-shm|lock|identity|signing-key|working-\d+|log|ndjson)$/.test(name))
      .filter(name => (statSync(bench.path(name)).mode & 0o077) !== 0);
    expect(open).toEqual([]);
  });
});

describe('core dumps', () => {
  test('that would hold key bytes are a finding of `doctor`, with the cure', () => {
    const limits = (size: string) => () =>
      `Limit  Soft  Hard\nMax core file size        ${size}          unlimited  bytes\n`;
    expect(coreDumpCheck(limits('0'), () => 'core\n')).toMatchObject({ state: 'ok', cure: null });
    expect(coreDumpCheck(limits('unlimited'), () => 'core\n')).toMatchObject({
      state: 'note',
      found: 'allowed up to any size',
      cure: expect.stringContaining('LimitCORE=0') as string,
    });
    expect(coreDumpCheck(limits('0'), () => '|/usr/lib/systemd/systemd-coredump')).toMatchObject({ state: 'note' });
    const nothing = (): string => {
      throw new Error('there is no /proc');
    };
    expect(coreDumpCheck(nothing)).toMatchObject({ state: 'note' });
  });
});
