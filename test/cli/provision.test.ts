import { readdirSync, readFileSync } from 'node:fs';
import { createPublicKey } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { parseCloudFault, startVirtualCloud, type VirtualCloud } from '#src/sim/virtual-cloud.ts';
import { Bench, jsonLines, type Ended } from '../support/cli.ts';

/* First provisioning as its commands have it: `run --job provision`, `replay`, `outbox`, `history`, `keys server`. */

const TOKEN = 'secret-token-4711';
const A = parseDeviceId('0123456789abcdef01234567')!;
const B = parseDeviceId('1123456789abcdef01234567')!;

let bench: Bench;
let cloud: VirtualCloud;
beforeEach(async () => {
  bench = new Bench();
  cloud = await startVirtualCloud({ token: TOKEN });
  bench.file('rack.csv', `device_id,name,product_id\n${A},A-01,4711\n${B},,\n`);
});
afterEach(async () => {
  await bench[Symbol.asyncDispose]();
  await cloud.close();
});

const cli = (...args: string[]): Promise<Ended> =>
  bench.run(args, { PARTICLE_ACCESS_TOKEN: TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url });
const provision = (...more: string[]): Promise<Ended> =>
  cli('run', 'rack.csv', '--job', 'provision', '--sim', '2', '--wait', '0', ...more);
const meet = (...faults: string[]): void => cloud.setFaults(faults.map(parseCloudFault));
const json = async <T>(...args: string[]): Promise<T> => JSON.parse((await cli(...args, '--json')).stdout) as T;

interface Call {
  readonly deviceId: string;
  readonly kind: string;
  readonly state: string;
  readonly attempts: number;
  readonly nextAt: string | null;
  readonly lastStatus: number | null;
  readonly lastError: string | null;
}

describe('run --job provision', () => {
  test('gives devices a key, a claim code, a product and a name, and leaves no code behind', async () => {
    const ran = await provision('--json', '--verbose', '--log', bench.path('run.log'));
    expect(jsonLines(ran.stdout).at(-1)).toMatchObject({ pass: 2, cloudPending: 0, exitCode: 0 });
    expect(ran.code).toBe(0);
    expect(cloud.claimCodes).toHaveLength(2);
    expect([cloud.nameOf(A), cloud.productOf(A), cloud.nameOf(B)]).toEqual(['A-01', '4711', null]);
    const left = [
      ran.stdout,
      ran.stderr,
      ...readdirSync(bench.folder, { recursive: true, withFileTypes: true })
        .filter(entry => entry.isFile())
        .map(entry => readFileSync(`${entry.parentPath}/${entry.name}`, 'latin1')),
    ];
    for (const { code } of cloud.claimCodes) expect(left.some(text => text.includes(code))).toBe(false);
    expect((await cli('audit', 'verify')).code).toBe(0);
    expect((await cli('db', 'check')).code).toBe(0);
  });

  test('can not be done offline: nothing is touched', async () => {
    const { code, stderr } = await provision('--offline');
    expect(code).toBe(2);
    expect(stderr).toMatchInlineSnapshot(`
      "error: the job provision fetches claim codes, which can't be had with --offline [USAGE]
      hint: leave --offline away, or use a job without the step \`claim-code\`
      "
    `);
    expect(readdirSync(bench.folder)).toEqual(['rack.csv']);
  });

  test('wants a token', async () => {
    const { code, stderr } = await bench.run(['run', 'rack.csv', '--job', 'provision', '--sim', '2'], {
      PHOTON_FLEET_CLOUD_URL: cloud.url,
    });
    expect([code, stderr]).toEqual([2, expect.stringContaining('[TOKEN_MISSING]')]);
  });

  test('without a claim code says what to do', async () => {
    meet('claims:status:503');
    const { code, stdout, stderr } = await provision();
    expect(code).toBe(3);
    expect(stdout + stderr).toContain('no claim code could be had (503: virtual fault: 503)');
    expect(stdout + stderr).toContain('the cloud gave no claim code; nothing was written: run again');
  });
});

describe('calls that wait', () => {
  test('are listed, and replayed behind their keys with the totals of both', async () => {
    meet('status:503:0', 'keys:status:503');
    expect((await provision()).code).toBe(4);
    const { calls } = await json<{ calls: Call[] }>('outbox');
    expect(calls).toEqual([
      {
        deviceId: A,
        kind: 'add-to-product',
        state: 'pending',
        attempts: 0,
        nextAt: expect.any(String) as string,
        lastStatus: null,
        lastError: null,
      },
      expect.objectContaining({ kind: 'name', state: 'pending' }) as Call,
    ]);
    const listed = (await cli('outbox', '--state', 'pending')).stdout.split('\n').map(line => line.split(/ {2,}/));
    expect(listed[0]).toEqual([
      'DEVICE',
      'WHAT',
      'GEN',
      'FINGERPRINT',
      'STATE',
      'TRIES',
      'NEXT',
      'STATUS',
      'LAST ERROR',
    ]);
    expect(listed.slice(1, -1).map(([, what]) => what)).toEqual(['key', 'key', 'add-to-product', 'name']);

    expect((await cli('replay', '--now', '--json')).stdout).toBe(
      '{"accepted":0,"pending":4,"refused":0,"superseded":0}\n',
    );
    meet('names:status:503');
    const some = await cli('replay', '--now');
    expect(some.code).toBe(4);
    expect(some.stdout).toBe('3 accepted, 1 pending, 0 refused\n');
    expect(some.stderr.split('\n')).toEqual(
      expect.arrayContaining([`${A}  add-to-product done`, `${A}  name waits: virtual fault: 503`]),
    );
    meet();
    expect(await cli('replay')).toMatchObject({ code: 4, stdout: '0 accepted, 1 pending, 0 refused\n' });
    expect(await cli('replay', '--now')).toMatchObject({ code: 0, stdout: '1 accepted, 0 pending, 0 refused\n' });
    expect(cloud.nameOf(A)).toBe('A-01');
    expect((await json<{ calls: Call[] }>('history', A)).calls).toMatchObject([
      { kind: 'add-to-product', state: 'done', attempts: 1 },
      { kind: 'name', state: 'done', attempts: 2, lastStatus: 200, lastError: null },
    ]);
    expect((await provision()).code).toBe(0);
  });

  test('and are refused by a replay are parked, retried and dropped by hand', async () => {
    meet('names:status:503:1', 'names:status:400');
    expect((await provision()).code).toBe(4);
    const refused = await cli('replay', '--now');
    expect([refused.code, refused.stdout]).toEqual([3, '0 accepted, 0 pending, 1 refused\n']);
    expect(refused.stderr).toContain('hint: a refused call is parked: mend what it says');
    expect((await cli('status')).stdout).toContain('refused');
    expect((await cli('outbox', 'retry', A)).stdout).toBe(
      `name of ${A} pending again: \`photon-fleet replay\` brings it\n`,
    );
    expect((await cli('outbox', 'drop', A, '--why', 'no name')).stdout).toBe(`name of ${A} dropped: no name\n`);
    expect(await cli('replay', '--now')).toMatchObject({ code: 0, stdout: '0 accepted, 0 pending, 0 refused\n' });
    expect((await json<{ calls: Call[] }>('outbox', '--state', 'dropped')).calls).toMatchObject([{ kind: 'name' }]);
    expect((await cli('outbox', 'drop', A, '--why', 'again')).code).toBe(2);
    expect((await cli('audit', 'verify')).code).toBe(0);
  });

  test('under a bad token stay, and the replay stops', async () => {
    meet('names:status:503');
    await provision();
    meet('names:status:401');
    expect(await cli('replay', '--now', '--json')).toMatchObject({
      code: 6,
      stdout: expect.stringContaining('"pending":1') as string,
    });
  });
});

describe('keys server --from', () => {
  test('prints the key of the server that a device trusts, and with --json its address', async () => {
    await provision();
    const { code, stdout, stderr } = await cli('keys', 'server', '--from', A);
    expect(code).toBe(0);
    expect(createPublicKey(stdout).asymmetricKeyDetails).toMatchObject({ modulusLength: 2048 });
    expect(stderr).toMatch(/^from backup \d of device \w+, taken \S+; its server is device.spark.io, port 5683\n$/);
    const all = await json<Record<string, unknown>>('keys', 'server', '--from', A.toUpperCase());
    expect(all).toMatchObject({ deviceId: A, host: 'device.spark.io', port: 5683 });
    expect(all['pem']).toBe(stdout);
    // It is fit for `server.key`.
    bench.file('server.pem', stdout);
    bench.file('config.yaml', 'server: { key: ./server.pem }\n');
    expect((await cli('run', 'rack.csv', '--job', 'server-key', '--sim', '2', '--wait', '0')).code).toBe(0);
  });

  test('says that there is none where the field is blank', async () => {
    const rack = await bench.serve(['rack', '--count', '1', '--write-ms', '5', '--listen', '127.0.0.1:0']);
    const [{ deviceId } = { deviceId: '' }] = rack.devices;
    bench.file('one.csv', `device_id\n${deviceId}\n`);
    const steps = ['identify', 'preflight', 'backup', 'write: { server-key: builtin }', 'verify'];
    bench.file('blank.yaml', ['name: blank', 'steps:', ...steps.map(step => `  - ${step}`), ''].join('\n'));
    const run = (job: string): Promise<Ended> =>
      cli('run', 'one.csv', '--job', job, '--rack', rack.address, '--wait', '20');
    expect((await run('./blank.yaml')).code).toBe(0);
    expect((await cli('keys', 'server', '--from', deviceId)).code).toBe(0); // its backup is from before
    expect((await run('backup')).code).toBe(0);
    const { code, stdout, stderr } = await cli('keys', 'server', '--from', deviceId);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr.replace(deviceId, 'ID')).toMatchInlineSnapshot(`
      "error: backup 2 of device ID holds no server key: the device uses the one built into its firmware [SERVER_KEY_INVALID]
      hint: \`server.key: builtin\` in the configuration says the same of other devices
      "
    `);
    rack.child.kill('SIGKILL');
  });

  test.each([
    [['server'], 'keys server takes --from DEVICE_ID, and nothing else but --identity [USAGE]'],
    [['server', '--from', 'x'], '--from takes a device ID [USAGE]'],
    [['find', 'abcd', '--from', A], 'keys find takes neither --from nor --identity [USAGE]'],
    [
      ['server', '--from', B, '--count', '1'],
      'keys server takes --from DEVICE_ID, and nothing else but --identity [USAGE]',
    ],
  ])('%j is refused', async (args, says) => {
    const { code, stderr } = await cli('keys', ...args);
    expect([code, stderr.split('\n')[0]]).toEqual([2, `error: ${says}`]);
  });

  test('of a device that is not on record is refused', async () => {
    await provision();
    const { code, stderr } = await cli('keys', 'server', '--from', 'f'.repeat(24));
    expect([code, stderr]).toEqual([2, expect.stringContaining('[DEVICE_NOT_FOUND]')]);
  });
});
