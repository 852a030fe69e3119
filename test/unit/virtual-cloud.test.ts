import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createCloudClient, type CloudAnswer } from '#src/cloud/client.ts';
import { sha256Hex } from '#src/core/bytes.ts';
import type { Clock } from '#src/core/clock.ts';
import { parseDeviceId, type DeviceId } from '#src/core/device-id.ts';
import { Fault } from '#src/core/errors.ts';
import { Secret } from '#src/core/secret.ts';
import {
  parseCloudFault,
  startVirtualCloud,
  type VirtualCloud,
  type VirtualCloudOptions,
} from '#src/sim/virtual-cloud.ts';

const A = parseDeviceId('1b003b000347343138333037')!;
const B = parseDeviceId('2c003c000447343138333038')!;

function pair(modulusLength: number): string {
  return generateKeyPairSync('rsa', { modulusLength }).publicKey.export({ type: 'spki', format: 'pem' }).toString();
}
const PEM = pair(1024);
const OTHER_PEM = pair(1024);
const fingerprint = (pem: string): string => sha256Hex(createPublicKey(pem).export({ type: 'spki', format: 'der' }));

/** Its time stands still, and every sleep lasts until it is woken. */
class HeldClock implements Clock {
  readonly #sleepers: (() => void)[] = [];

  now(): number {
    return 1_700_000_000_000;
  }

  monotonicMs(): number {
    return 0;
  }

  sleep(): Promise<void> {
    return new Promise(resolve => this.#sleepers.push(resolve));
  }

  after(): () => void {
    return () => undefined;
  }

  wake(): void {
    for (const resolve of this.#sleepers.splice(0)) resolve();
  }
}

let cloud: VirtualCloud | null = null;
afterEach(async () => {
  await cloud?.close();
  cloud = null;
});

async function start(faults: string[] = [], options: VirtualCloudOptions = {}): Promise<VirtualCloud> {
  cloud = await startVirtualCloud({ ...options, faults: faults.map(parseCloudFault) });
  return cloud;
}

function send(to: VirtualCloud, device: DeviceId = A, pem = PEM, timeoutMs = 5000): Promise<CloudAnswer> {
  const client = createCloudClient({ url: to.url, token: new Secret('0123456789abcdef'), timeoutMs, insecure: false });
  return client.sendPublicKey({ deviceId: device, publicKeyPem: pem, productId: null, orderMs: 17 });
}

interface Answer {
  status: number;
  body: Record<string, unknown>;
}

interface Ask {
  method?: string;
  headers?: Record<string, string>;
  body?: string | URLSearchParams;
}

async function ask(to: VirtualCloud, path: string, init: Ask = {}): Promise<Answer> {
  const response = await fetch(to.url + path, { ...init, headers: { authorization: 'Bearer any', ...init.headers } });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const provision = (to: VirtualCloud, body: object | string, path: string = A): Promise<Answer> =>
  ask(to, `/v1/provisioning/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

describe('a virtual cloud', () => {
  test('keeps every key that it is told, in order, by device', async () => {
    let now = 1000;
    const clock: Clock = {
      now: () => (now += 1),
      monotonicMs: () => now,
      sleep: () => Promise.resolve(),
      after: () => () => undefined,
    };
    const to = await start([], { clock });
    expect(to.currentFingerprint(A)).toBeNull();
    expect(await send(to, A, PEM)).toEqual({ kind: 'accepted', status: 200 });
    expect(await send(to, B, PEM)).toEqual({ kind: 'accepted', status: 200 });
    expect(await send(to, A, OTHER_PEM)).toEqual({ kind: 'accepted', status: 200 });
    expect(to.keysOf(A)).toEqual([
      { pem: PEM, fingerprint: fingerprint(PEM), at: expect.any(Number) as number, order: 'manual_17' },
      { pem: OTHER_PEM, fingerprint: fingerprint(OTHER_PEM), at: expect.any(Number) as number, order: 'manual_17' },
    ]);
    expect(to.currentFingerprint(A)).toBe(fingerprint(OTHER_PEM));
    expect(to.currentFingerprint(B)).toBe(fingerprint(PEM));
    expect(to.requests.map(({ method, path, device }) => [method, path, device])).toEqual([
      ['POST', `/v1/provisioning/${A}`, A],
      ['POST', `/v1/provisioning/${B}`, B],
      ['POST', `/v1/provisioning/${A}`, A],
    ]);
    expect(to.requestCount).toBe(3);
  });

  test('takes a form as well as JSON, and an ID in capitals', async () => {
    const to = await start();
    const { status } = await ask(to, `/v1/provisioning/${A.toUpperCase()}`, {
      method: 'POST',
      body: new URLSearchParams({ deviceID: A, publicKey: PEM, algorithm: 'rsa', filename: 'cli' }),
    });
    expect(status).toBe(200);
    expect(to.keysOf(A)).toHaveLength(1);
    expect(to.keysOf(A)[0]!.order).toBeNull();
  });

  test('wants a token, and its own one where it has one', async () => {
    const to = await start([], { token: 'right' });
    expect(await send(to)).toEqual({
      kind: 'unauthorized',
      status: 401,
      reason: 'invalid_token: The access token provided is invalid.',
    });
    const none = await fetch(`${to.url}/v1/devices/${A}`);
    expect(none.status).toBe(401);
    const right = await ask(to, `/v1/devices/${A}`, { headers: { authorization: 'bearer right' } });
    expect(right.status).toBe(200);
    expect(to.keysOf(A)).toEqual([]);
  });

  test('refuses what is no public key of a Photon', async () => {
    const to = await start();
    const der = createPublicKey(PEM).export({ type: 'spki', format: 'der' });
    const pkcs1 = createPublicKey(PEM).export({ type: 'pkcs1', format: 'pem' }).toString();
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      .publicKey.export({ type: 'spki', format: 'pem' })
      .toString();
    const cut = `-----BEGIN PUBLIC KEY-----\n${der.subarray(0, 100).toString('base64')}\n-----END PUBLIC KEY-----\n`;
    const errors: unknown[] = [];
    for (const publicKey of [pkcs1, pair(2048), ec, cut, der.toString('base64'), '']) {
      const { status, body } = await provision(to, { deviceID: A, publicKey, algorithm: 'rsa' });
      expect(status).toBe(400);
      errors.push(body['error']);
    }
    expect(errors).toMatchInlineSnapshot(`
      [
        "publicKey is not in PEM format (BEGIN PUBLIC KEY)",
        "publicKey has 2048 bits, not 1024",
        "publicKey is not an RSA key",
        "publicKey is not a key",
        "publicKey is not in PEM format (BEGIN PUBLIC KEY)",
        "publicKey is not in PEM format (BEGIN PUBLIC KEY)",
      ]
    `);
    expect(to.keysOf(A)).toEqual([]);
  });

  test('refuses a body that does not fit its path, or can not be read', async () => {
    const to = await start();
    const good = { deviceID: A, publicKey: PEM, algorithm: 'rsa' };
    const answers = [
      await provision(to, { ...good, deviceID: B }),
      await provision(to, { ...good, algorithm: 'ecc' }),
      await provision(to, { deviceID: A }),
      await provision(to, '{'),
      await provision(to, '[]'),
      await provision(to, 'x'.repeat(70_000)),
      await provision(to, good, 'photon'),
      await ask(to, '/v1/nothing'),
    ];
    expect(answers.map(({ status, body }) => [status, body['error']])).toMatchInlineSnapshot(`
      [
        [
          400,
          "deviceID is not the one of the path",
        ],
        [
          400,
          "algorithm is not rsa",
        ],
        [
          400,
          "publicKey is missing",
        ],
        [
          400,
          "the body is neither JSON nor a form",
        ],
        [
          400,
          "the body is neither JSON nor a form",
        ],
        [
          413,
          "the body is too long",
        ],
        [
          404,
          "Device not found",
        ],
        [
          404,
          "Not found",
        ],
      ]
    `);
    expect((await provision(to, good)).status).toBe(200);
  });

  test('knows the devices of its account alone, where they are given', async () => {
    const to = await start([], { deviceIds: [A.toUpperCase()] });
    expect((await send(to, A)).kind).toBe('accepted');
    expect(await send(to, B)).toEqual({ kind: 'refused', status: 403, reason: 'Permission Denied' });
    expect((await ask(to, `/v1/devices/${B}`)).status).toBe(403);
  });

  test('says of a device whether it has connected since', async () => {
    const to = await start();
    expect((await ask(to, `/v1/devices/${A}`)).body).toMatchObject({ online: false, last_handshake_at: null });
    to.noteHandshake(A);
    const { body } = await ask(to, `/v1/devices/${A}`);
    expect(body).toMatchObject({ id: A, connected: true, online: true });
    expect(body['last_handshake_at']).toMatch(/^\d{4}-\d\d-\d\dT/);
  });

  test('gives claim codes of 63 characters, as the DCT holds them', async () => {
    const to = await start();
    const { status, body } = await ask(to, '/v1/device_claims', { method: 'POST' });
    expect(status).toBe(200);
    expect(body['claim_code']).toHaveLength(63);
  });

  test('shows its keys to the same machine without a token, whatever its faults', async () => {
    const to = await start();
    await send(to, A, PEM);
    await send(to, A, OTHER_PEM);
    to.setFaults([parseCloudFault('status:500')]);
    const response = await fetch(`${to.url}/v1/sim/keys`);
    expect(await response.json()).toEqual({
      devices: { [A]: { fingerprint: fingerprint(OTHER_PEM), publicKey: OTHER_PEM, count: 2 } },
    });
    expect(to.requestCount).toBe(2);
  });

  test('counts how many sends of one device are in flight', async () => {
    const to = await start(['hang']);
    const waiting = Promise.all([send(to, A), send(to, A), send(to, A), send(to, B)]);
    await expect.poll(() => [to.inFlight(A), to.inFlight(B)]).toEqual([3, 1]);
    expect([to.maxInFlight(A), to.maxInFlight(B), to.maxInFlight()]).toEqual([3, 1, 3]);
    await to.close();
    await waiting;
    await expect.poll(() => [to.inFlight(A), to.inFlight(B)]).toEqual([0, 0]);
    expect(to.maxInFlight()).toBe(3);
  });

  test('never counts two for a hundred sends that follow each other', async () => {
    const to = await start();
    for (let n = 0; n < 100; n += 1) await send(to, A);
    expect(to.maxInFlight(A)).toBe(1);
  });

  test('says so where its port is taken', async () => {
    const to = await start();
    const fault = await startVirtualCloud({ port: to.port }).catch((thrown: unknown) => thrown);
    expect(fault).toBeInstanceOf(Fault);
    expect(fault).toMatchObject({ code: 'PORT_IN_USE', facts: { host: '127.0.0.1', port: to.port } });
    expect(await startVirtualCloud({ host: '192.0.2.1' }).catch((thrown: unknown) => thrown)).toMatchObject({
      code: 'USAGE',
    });
  });

  test('cuts every connection when it is closed, idle and waiting ones, and may be closed twice', async () => {
    const to = await start(['hang']);
    const idle = connect(to.port, '127.0.0.1');
    const ended = new Promise(resolve => idle.once('close', resolve).on('error', () => undefined));
    const waiting = send(to);
    await expect.poll(() => to.inFlight(A)).toBe(1);
    await to.close();
    await ended;
    expect(await waiting).toMatchObject({ kind: 'unknown', status: null });
    await to.close();
  });
});

describe('a fault of the virtual cloud', () => {
  test.each([
    ['status:500', { kind: 'unknown', status: 500 }, 0],
    ['status:404', { kind: 'refused', status: 404 }, 0],
    ['html:502', { kind: 'unknown', status: 502, reason: 'Bad Gateway' }, 0],
    ['empty:500', { kind: 'unknown', status: 500, reason: 'Internal Server Error' }, 0],
    ['empty:403', { kind: 'refused', status: 403, reason: 'Forbidden' }, 0],
    ['empty:204', { kind: 'accepted', status: 204 }, 1],
    ['retry-after:9', { kind: 'unknown', status: 429, retryAfterMs: 9000 }, 0],
    ['redirect', { kind: 'unknown', status: 302 }, 0],
    ['down', { kind: 'unknown', status: null }, 0],
    [`device:${A}:down`, { kind: 'unknown', status: null, reason: 'connection reset (ECONNRESET)' }, 0],
    ['lost', { kind: 'unknown', status: null, reason: 'connection reset (ECONNRESET)' }, 1],
    [
      'reset',
      { kind: 'unknown', status: null, reason: expect.stringMatching(/^connection (closed|reset) /) as string },
      1,
    ],
    ['refuse-after-store', { kind: 'refused', status: 400 }, 1],
    ['late:1', { kind: 'accepted', status: 200 }, 1],
    ['apply-late:1', { kind: 'accepted', status: 200 }, 1],
    ['slow:20', { kind: 'accepted', status: 200 }, 1],
    ['flaky:100', { kind: 'unknown', status: 503 }, 0],
    [`device:${B}:flaky:100`, { kind: 'accepted' }, 1],
  ])('%s', async (fault, expected, stored) => {
    const to = await start([fault]);
    expect(await send(to)).toMatchObject(expected);
    expect(to.keysOf(A)).toHaveLength(stored);
  });

  test('hang never answers, and keeps nothing', async () => {
    const to = await start(['hang']);
    expect(await send(to, A, PEM, 150)).toMatchObject({ kind: 'unknown', reason: 'no answer within 150 ms' });
    expect(to.keysOf(A)).toEqual([]);
    await expect.poll(() => to.inFlight(A)).toBe(0);
  });

  test('late takes the key of a client that has given up', async () => {
    const to = await start(['late:60000']);
    expect(await send(to, A, PEM, 150)).toMatchObject({ kind: 'unknown', reason: 'no answer within 150 ms' });
    expect(to.currentFingerprint(A)).toBe(fingerprint(PEM));
  });

  test('apply-late takes the key of a client that has given up, later', async () => {
    const clock = new HeldClock();
    const to = await start(['apply-late:60000'], { clock });
    expect(await send(to, A, PEM, 150)).toMatchObject({ kind: 'unknown', reason: 'no answer within 150 ms' });
    expect(to.keysOf(A)).toEqual([]);
    to.setFaults([]);
    expect((await send(to, A, OTHER_PEM)).kind).toBe('accepted');
    clock.wake();
    await expect.poll(() => to.currentFingerprint(A)).toBe(fingerprint(PEM));
  });

  test('apply-late does not take a key once the cloud is closed', async () => {
    const to = await start(['apply-late:60000']);
    const waiting = send(to);
    await expect.poll(() => to.inFlight(A)).toBe(1);
    await to.close();
    expect(await waiting).toMatchObject({ kind: 'unknown', status: null });
    expect(to.keysOf(A)).toEqual([]);
  });

  test('slow has answered as soon as its status is there, and costs a client no more than its deadline', async () => {
    const to = await start(['slow:60000']);
    expect(await send(to, A, PEM, 300)).toEqual({ kind: 'accepted', status: 200 });
    await expect.poll(() => to.inFlight(A)).toBe(0);
  });

  test('retry-after-date names the time by the clock of the cloud', async () => {
    const clock = new HeldClock();
    const to = await start(['retry-after-date:90:1'], { clock });
    const response = await fetch(`${to.url}/v1/devices/${A}`, { headers: { authorization: 'Bearer any' } });
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, 'Tue, 14 Nov 2023 22:14:50 GMT']);
    expect((await send(to)).kind).toBe('accepted');
  });

  test('flaky fails in turn with 503, after it has taken the key, and with 429, evenly spread', async () => {
    const to = await start(['flaky:20']);
    const answers: unknown[] = [];
    for (let n = 0; n < 20; n += 1) {
      const answer = await send(to);
      answers.push(answer.kind === 'accepted' ? '' : answer.status);
    }
    expect(answers).toEqual(['', '', '', '', 503, '', '', '', '', null, '', '', '', '', 429, '', '', '', '', 503]);
    expect(to.keysOf(A)).toHaveLength(17);
  });

  test('with a number is used up, and then the next one counts', async () => {
    const to = await start(['status:500:2', 'retry-after:1:1']);
    const kinds: (number | null)[] = [];
    for (let n = 0; n < 4; n += 1) kinds.push((await send(to)).status);
    expect(kinds).toEqual([500, 500, 429, 200]);
  });

  test('of one device leaves the others alone', async () => {
    const to = await start([`device:${A.toUpperCase()}:status:503`]);
    expect(await send(to, A)).toMatchObject({ kind: 'unknown', status: 503 });
    expect(await send(to, B)).toMatchObject({ kind: 'accepted' });
  });

  test('can be changed while the cloud runs', async () => {
    const to = await start();
    expect((await send(to)).kind).toBe('accepted');
    to.setFaults([parseCloudFault('down')]);
    expect((await send(to)).kind).toBe('unknown');
    to.setFaults([]);
    expect((await send(to)).kind).toBe('accepted');
  });

  test.each([
    '',
    'up',
    'down:1',
    'status',
    'status:99',
    'status:600',
    'status:x',
    'status:500:',
    'status:500:1:2',
    'late',
    'late:-1',
    'retry-after:1e3',
    'retry-after-date',
    'empty',
    'empty:200:1',
    'reset:1',
    'slow',
    'apply-late:x',
    'flaky',
    'flaky:0',
    'flaky:101',
    'handshake-',
    'handshake-silent:1',
    'device:abc:down',
    `device:${A}`,
    `device:${A}:device:${A}:down`,
    'toString',
  ])('can not be %j', text => {
    expect(() => parseCloudFault(text)).toThrow(Fault);
  });

  test('that is unknown is told with those that are known', () => {
    let fault: unknown;
    try {
      parseCloudFault('explode');
    } catch (thrown) {
      fault = thrown;
    }
    expect([(fault as Fault).message, (fault as Fault).hint]).toMatchInlineSnapshot(`
      [
        ""explode" is no fault of the virtual cloud",
        "it knows: down · hang · status:CODE[:N] · html:CODE · empty:CODE · late:MS · apply-late:MS · slow:MS · lost · reset · refuse-after-store · retry-after:SECONDS[:N] · retry-after-date:SECONDS[:N] · redirect · flaky:PERCENT · handshake-silent · handshake-short · handshake-long · handshake-close · handshake-bad-signature · device:ID:FAULT · keys|claims|products|names|devices:FAULT",
      ]
    `);
  });
});
