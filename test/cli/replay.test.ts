import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import Database from 'better-sqlite3';
import { describe, expect, test, vi } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { parseCloudFault, startVirtualCloud, type VirtualCloud } from '#src/sim/virtual-cloud.ts';
import { Bench, csvOf } from '../support/cli.ts';
import { startTlsCloud } from '../support/tls-cloud.ts';

const TOKEN = 'secret-token-4711';
const LONG = { timeout: 240_000 };
const A = parseDeviceId('0123456789abcdef01234567')!;
const B = parseDeviceId('1123456789abcdef01234567')!;
const C = parseDeviceId('2123456789abcdef01234567')!;

/** A cloud in this process, and how a command is told of it. */
async function openCloud(...faults: string[]): Promise<VirtualCloud & { readonly env: NodeJS.ProcessEnv }> {
  const cloud = await startVirtualCloud({ token: TOKEN, faults: faults.map(parseCloudFault) });
  return Object.assign(cloud, { env: { PARTICLE_ACCESS_TOKEN: TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url } });
}

/** A record with these devices, whose keys wait for the cloud. */
async function fill(bench: Bench, ids: readonly string[]): Promise<void> {
  bench.file('rack.csv', csvOf(ids.map(deviceId => ({ deviceId }))));
  const { code, stderr } = await bench.run(['run', 'rack.csv', '--sim', `${ids.length}`, '--offline', '--wait', '0']);
  expect([code, stderr]).toEqual([4, expect.any(String)]);
}

interface Send {
  readonly deviceId: string;
  readonly fingerprint: string;
  readonly state: string;
  readonly attempts: number;
  readonly lastError: string | null;
}

async function outboxOf(bench: Bench): Promise<readonly Send[]> {
  const { stdout } = await bench.run(['outbox', '--json']);
  return (JSON.parse(stdout) as { sends: Send[] }).sends;
}

/** A command that goes on, and all that it has said so far. */
interface Service {
  readonly child: ChildProcess;
  readonly said: string[];
  readonly result: string[];
  /** Its exit code, once it has ended and all that it said was read. */
  readonly ended: Promise<number | null>;
}

async function watch(bench: Bench, env: NodeJS.ProcessEnv, ...more: string[]): Promise<Service> {
  const child = bench.start(['replay', '--watch', ...more], env);
  const ended = new Promise<number | null>(resolve => child.once('close', resolve));
  const service: Service = { child, said: [], result: [], ended };
  createInterface(child.stderr!).on('line', line => line !== '' && service.said.push(line));
  createInterface(child.stdout!).on('line', line => service.result.push(line));
  await vi.waitUntil(() => service.said.length > 0, LONG);
  expect(service.said[0]).toBe('watching the outbox; Ctrl-C ends it');
  return service;
}

async function endOf({ ended, result }: Service): Promise<{ code: number | null; result: string }> {
  return { code: await ended, result: result.join('\n') };
}

// Together: they wait most of the time.
describe.concurrent('replay --watch', () => {
  test('empties the outbox beside a run, both over a cloud that fails at first: never two in flight for one device', async () => {
    await using bench = new Bench();
    const rack = await bench.serve([
      'rack',
      '--listen',
      '127.0.0.1:0',
      '--count',
      '8',
      '--hubs',
      '2',
      '--write-ms',
      '50',
    ]);
    await using cloud = await openCloud('status:503');
    const ids = rack.devices.map(({ deviceId }) => parseDeviceId(deviceId)!);
    bench.file('first.csv', csvOf(rack.devices.slice(0, 3)));
    bench.file('rest.csv', csvOf(rack.devices.slice(3)));
    const run = (manifest: string, ...more: string[]) =>
      bench.run(['run', manifest, '--rack', rack.address, '--wait', '0', ...more], cloud.env);
    expect((await run('first.csv', '--offline')).code).toBe(4);
    const service = await watch(bench, cloud.env);
    expect((await run('rest.csv')).code).toBe(4);
    // Every device has met the 503 at the hands of the service too, some more than once.
    const waits = (): string[] => service.said.filter(line => line.endsWith('  waits: virtual fault: 503'));
    await vi.waitUntil(() => waits().length === 8 && cloud.requestCount > 13, LONG);
    cloud.setFaults([]);
    const accepted = (): string[] => service.said.filter(line => line.endsWith('  accepted')).toSorted();
    await vi.waitUntil(() => accepted().length === 8, LONG);
    expect(accepted()).toEqual(ids.map(id => `${id}  accepted`).toSorted());
    expect(waits()).toHaveLength(8); // one line a change, however many tries there were
    const sends = await outboxOf(bench);
    expect(sends).toHaveLength(8);
    for (const { deviceId, fingerprint, state } of sends) {
      expect([state, fingerprint]).toEqual(['accepted', cloud.currentFingerprint(parseDeviceId(deviceId)!)]);
    }
    service.child.kill('SIGTERM');
    expect(await endOf(service)).toEqual({ code: 130, result: '8 accepted, 0 pending, 0 refused' });
    expect((await run('first.csv')).code).toBe(0);
    expect((await run('rest.csv')).code).toBe(0);
    expect(cloud.maxInFlight()).toBe(1);
  });

  test('and two of them beside each other share the work', async () => {
    await using bench = new Bench();
    await using cloud = await openCloud('late:200');
    await fill(bench, [A, B, C]);
    const services = [await watch(bench, cloud.env), await watch(bench, cloud.env)];
    const accepted = (): string[] => services.flatMap(({ said }) => said.filter(line => line.endsWith('  accepted')));
    await vi.waitUntil(() => accepted().length === 3, LONG);
    for (const { child } of services) child.kill('SIGINT');
    for (const service of services) expect((await endOf(service)).code).toBe(130);
    expect(accepted().toSorted()).toEqual([A, B, C].map(id => `${id}  accepted`));
    expect([cloud.requestCount, cloud.maxInFlight()]).toEqual([3, 1]);
  });

  test('--now ignores the waiting times in its first round, and not every two seconds', async () => {
    await using bench = new Bench();
    await using cloud = await openCloud(`device:${A}:retry-after:3600`, 'status:503');
    await fill(bench, [A, B]);
    expect((await bench.run(['replay'], cloud.env)).code).toBe(4);
    const service = await watch(bench, cloud.env, '--now', '--json');
    const tries = (id: string): number => cloud.requests.filter(({ device }) => device === id).length;
    await vi.waitUntil(() => tries(B) === 3, LONG); // several rounds after the first
    expect(tries(A)).toBe(2);
    expect(service.said.slice(1).toSorted()).toEqual([
      `${A}  waits: too many requests`,
      `${B}  waits: virtual fault: 503`,
    ]);
    service.child.kill('SIGTERM');
    const { code, result } = await endOf(service);
    expect([code, JSON.parse(result)]).toEqual([130, { accepted: 0, pending: 2, refused: 0, superseded: 0 }]);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)(
    '%s: the send under way is finished and put down, no other is begun',
    async signal => {
      await using bench = new Bench();
      await using cloud = await openCloud('late:4000');
      await fill(bench, [A, B, C]);
      const service = await watch(bench, { ...cloud.env, PHOTON_FLEET_CLOUD_CONCURRENCY: '1' });
      await vi.waitUntil(() => cloud.requestCount === 1, LONG);
      const id = cloud.requests[0]?.device;
      service.child.kill(signal);
      expect(await endOf(service)).toEqual({ code: 130, result: '1 accepted, 2 pending, 0 refused' });
      expect(service.said.slice(1)).toEqual([
        'stopping: sends that are under way finish first',
        `${id}  accepted`,
        expect.stringContaining('hint: '),
      ]);
      const sends = await outboxOf(bench);
      expect(sends.map(({ deviceId, state, attempts }) => [deviceId === id, state, attempts]).toSorted()).toEqual([
        [false, 'pending', 0],
        [false, 'pending', 0],
        [true, 'accepted', 1],
      ]);
      expect(cloud.requestCount).toBe(1);
    },
  );

  test('a second signal cuts, and the send that was under way goes with the next replay', async () => {
    await using bench = new Bench();
    await using cloud = await openCloud('hang');
    await fill(bench, [A]);
    const service = await watch(bench, { ...cloud.env, PHOTON_FLEET_CLOUD_TIMEOUT_MS: '120000' });
    await vi.waitUntil(() => cloud.inFlight(A) === 1, LONG);
    service.child.kill('SIGTERM');
    await vi.waitUntil(() => service.said.includes('stopping: sends that are under way finish first'), LONG);
    service.child.kill('SIGTERM');
    expect(await endOf(service)).toEqual({ code: 130, result: '' });
    expect(await outboxOf(bench)).toMatchObject([{ state: 'pending', attempts: 1 }]);
    await vi.waitUntil(() => cloud.inFlight(A) === 0, LONG);
    cloud.setFaults([]);
    expect(await bench.run(['replay', '--now'], cloud.env)).toMatchObject({ code: 0 });
    expect(cloud.maxInFlight()).toBe(1);
  });

  test('a record that another program holds for a while ends nothing, and is said', async () => {
    await using bench = new Bench();
    await using cloud = await openCloud('status:503');
    await fill(bench, [A]);
    const service = await watch(bench, cloud.env);
    await vi.waitUntil(() => service.said.length === 2, LONG);
    const other = new Database(bench.path('photon-fleet.db'));
    other.exec('BEGIN IMMEDIATE');
    cloud.setFaults([]);
    await vi.waitUntil(() => service.said.length === 4, LONG);
    other.exec('ROLLBACK');
    other.close();
    await vi.waitUntil(() => service.said.some(line => line.startsWith('the record')), LONG);
    await vi.waitUntil(() => service.said.includes(`${A}  accepted`), LONG);
    expect(service.said.slice(1).filter(line => line !== `${A}  accepted`)).toEqual([
      `${A}  waits: virtual fault: 503`,
      "error: the record can't be written: database is locked (SQLITE_BUSY) [DB_FAILED]",
      'hint: check that the disk has room and that nothing else holds the database; this goes on trying',
      'the record can be read and written again',
    ]);
    service.child.kill('SIGTERM');
    expect((await endOf(service)).code).toBe(130);
    expect(await outboxOf(bench)).toMatchObject([{ state: 'accepted' }]);
  });

  test('a token that the cloud refuses ends it with 6, after one request', async () => {
    await using bench = new Bench();
    await using cloud = await openCloud();
    await fill(bench, [A, B, C]);
    const bad = { ...cloud.env, PARTICLE_ACCESS_TOKEN: 'other', PHOTON_FLEET_CLOUD_CONCURRENCY: '1' };
    const service = await watch(bench, bad, '--json');
    const { code, result } = await endOf(service);
    expect([code, JSON.parse(result)]).toEqual([6, { accepted: 0, pending: 3, refused: 0, superseded: 0 }]);
    expect(service.said.slice(1)).toEqual([
      'error: the cloud refused the access token: invalid_token: The access token provided is invalid. [CLOUD_UNAUTHORIZED]',
      expect.stringContaining('hint: the access token is refused'),
      `${cloud.requests[0]?.device}  waits: invalid_token: The access token provided is invalid.`,
    ]);
    expect(cloud.requestCount).toBe(1);
  });

  test('a refusal is said, and others go on', async () => {
    await using bench = new Bench();
    await using cloud = await openCloud(`device:${A}:status:403`);
    await fill(bench, [A, B]);
    const service = await watch(bench, cloud.env);
    await vi.waitUntil(() => service.said.length === 3, LONG);
    expect(service.said.slice(1).toSorted()).toEqual([`${A}  refused with 403: virtual fault: 403`, `${B}  accepted`]);
    service.child.kill('SIGTERM');
    expect(await endOf(service)).toEqual({ code: 130, result: '1 accepted, 0 pending, 1 refused' });
  });
});

describe.concurrent('replay over https', () => {
  test.each([
    ['signed by itself', {}, false, "the server's certificate is signed by itself (DEPTH_ZERO_SELF_SIGNED_CERT)"],
    [
      'signed by an authority that nobody knows',
      { byAuthority: true },
      false,
      "the server's certificate is signed by nobody known (UNABLE_TO_VERIFY_LEAF_SIGNATURE)",
    ],
    [
      'that has expired',
      { byAuthority: true, expired: true },
      true,
      "the server's certificate has expired (CERT_HAS_EXPIRED)",
    ],
    [
      'of another host',
      { byAuthority: true, ofAnotherHost: true },
      true,
      "the server's certificate is another host's (ERR_TLS_CERT_ALTNAME_INVALID)",
    ],
  ])('sends nothing to a server with a certificate %s', async (_, flaw, trusted, reason) => {
    await using bench = new Bench();
    await using cloud = await startTlsCloud(flaw);
    await fill(bench, [A]);
    const env = {
      PARTICLE_ACCESS_TOKEN: TOKEN,
      PHOTON_FLEET_CLOUD_URL: cloud.url,
      ...(trusted && { NODE_EXTRA_CA_CERTS: bench.file('authority.pem', cloud.authority) }),
    };
    const { code, stdout, stderr } = await bench.run(['replay'], env);
    expect([code, stdout]).toEqual([4, '0 accepted, 1 pending, 0 refused\n']);
    expect(stderr).toContain(`${A}  waits: ${reason}\n`);
    expect(await outboxOf(bench)).toMatchObject([
      { state: 'pending', attempts: 1, lastStatus: null, lastError: reason },
    ]);
    expect(cloud.requestCount).toBe(0);
  });

  test('sends to a server whose certificate verifies', async () => {
    await using bench = new Bench();
    await using cloud = await startTlsCloud({ byAuthority: true });
    await fill(bench, [A]);
    const env = {
      PARTICLE_ACCESS_TOKEN: TOKEN,
      PHOTON_FLEET_CLOUD_URL: cloud.url,
      NODE_EXTRA_CA_CERTS: bench.file('authority.pem', cloud.authority),
    };
    expect(await bench.run(['replay'], env)).toMatchObject({ code: 0, stdout: '1 accepted, 0 pending, 0 refused\n' });
    expect(cloud.requestCount).toBe(1);
  });
});
