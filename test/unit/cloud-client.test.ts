import { generateKeyPairSync } from 'node:crypto';
import { EventEmitter, getEventListeners } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { inspect } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import { createCloudClient, type CloudAnswer, type CloudClientOptions } from '#src/cloud/client.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import type { Fault } from '#src/core/errors.ts';
import { Secret } from '#src/core/secret.ts';

const DEVICE = parseDeviceId('1b003b000347343138333037')!;
const TOKEN = 'hunter2-0123456789abcdef';
const { publicKey: PEM } = generateKeyPairSync('rsa', {
  modulusLength: 1024,
  publicKeyEncoding: { type: 'spki', format: 'pem' },
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
});

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

/** A server that answers as the test wants. @returns its URL */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  open.push(async () => {
    const closed = new Promise(resolve => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A server that hears everything and says what `speak` does. @returns its host and port */
async function serveTcp(speak: (socket: Socket) => void): Promise<string> {
  const server = createTcpServer(socket => speak(socket.resume()));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  open.push(() => new Promise(resolve => server.close(() => resolve())));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function send(
  url: string,
  more: Partial<CloudClientOptions> & { productId?: string; signal?: AbortSignal } = {},
): Promise<CloudAnswer> {
  const { productId = null, signal, ...options } = more;
  const client = createCloudClient({ url, token: new Secret(TOKEN), timeoutMs: 5000, insecure: false, ...options });
  return client.sendPublicKey({ deviceId: DEVICE, publicKeyPem: PEM, productId, orderMs: 1714564800000 }, signal);
}

const answering =
  (status: number, body = '', headers: Record<string, string> = {}): RequestListener =>
  (request, response) => {
    request.resume();
    response.writeHead(status, headers).end(body);
  };

describe('a send', () => {
  test('is a POST with the token, the key, the order, and the product where there is one', async () => {
    const seen: { request: IncomingMessage; body: unknown }[] = [];
    const url = await serve((request, response) => {
      void request.toArray().then(chunks => {
        seen.push({ request, body: JSON.parse(Buffer.concat(chunks as Buffer[]).toString()) as unknown });
        response.end('{"ok":true}');
      });
    });
    expect(await send(`${url}/base/`)).toEqual({ kind: 'accepted', status: 200 });
    expect(await send(url, { productId: '1234' })).toEqual({ kind: 'accepted', status: 200 });
    const [first, second] = seen;
    expect(first!.request.method).toBe('POST');
    expect(first!.request.url).toBe(`/base/v1/provisioning/${DEVICE}`);
    expect(first!.request.headers).toMatchObject({
      authorization: `Bearer ${TOKEN}`,
      'content-type': 'application/json',
    });
    const body = {
      deviceID: DEVICE,
      publicKey: PEM,
      algorithm: 'rsa',
      filename: `${DEVICE}.pub.pem`,
      order: 'manual_1714564800000',
    };
    expect(first!.body).toEqual(body);
    expect(second!.request.url).toBe(`/v1/provisioning/${DEVICE}`);
    expect(second!.body).toEqual({ ...body, product_id: '1234' });
  });

  test('goes over the connection of the one before it, and answers that are not HTTP/1.1 messages are none', async () => {
    const sockets = new Set<unknown>();
    const url = await serve((request, response) => {
      sockets.add(request.socket);
      request.resume();
      response.end('{"ok":true}');
    });
    const client = createCloudClient({ url, token: new Secret(TOKEN), timeoutMs: 5000, insecure: false });
    const one = { deviceId: DEVICE, publicKeyPem: PEM, productId: null, orderMs: 1 };
    for (let n = 0; n < 3; n += 1) expect(await client.sendPublicKey(one)).toEqual({ kind: 'accepted', status: 200 });
    expect(sockets.size).toBe(1);
    const switching = await serveTcp(socket =>
      socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n'),
    );
    const answer = await send(`http://${switching}`, { timeoutMs: 250_000 });
    expect(answer).toMatchObject({ kind: 'unknown', status: null, mayLandLate: true });
    expect(answer).toMatchObject({ reason: 'it answers in another protocol' });
  });

  test('shares its signal with many others without a warning, and leaves nothing on it', async () => {
    const url = await serve(answering(200, '{}'));
    const client = createCloudClient({ url, token: new Secret(TOKEN), timeoutMs: 5000, insecure: false });
    const { signal } = new AbortController();
    const warnings: string[] = [];
    const onWarning = ({ name }: Error): void => void warnings.push(name);
    process.on('warning', onWarning);
    const one = { deviceId: DEVICE, publicKeyPem: PEM, productId: null, orderMs: 1 };
    const answers = await Promise.all(Array.from({ length: 20 }, () => client.sendPublicKey(one, signal)));
    await new Promise(resolve => setImmediate(resolve)); // a warning comes in the next turn
    process.off('warning', onWarning);
    expect(answers).toEqual(Array(20).fill({ kind: 'accepted', status: 200 }));
    expect(warnings).toEqual([]);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  test('is accepted with 201 and an empty body', async () => {
    expect(await send(await serve(answering(201)))).toEqual({ kind: 'accepted', status: 201 });
  });

  test('is refused with the words of the server', async () => {
    const url = await serve(answering(403, '{"ok":false,"error":"Permission Denied"}'));
    expect(await send(url)).toEqual({ kind: 'refused', status: 403, reason: 'Permission Denied' });
  });

  test("is refused with the status text where the body is a proxy's page", async () => {
    const url = await serve(answering(404, '<html><body>nginx</body></html>', { 'content-type': 'text/html' }));
    expect(await send(url)).toEqual({ kind: 'refused', status: 404, reason: 'Not Found' });
  });

  test('is unauthorized, and the token that the server repeats is masked', async () => {
    const url = await serve((request, response) => {
      response.writeHead(401).end(JSON.stringify({ error: `no such token: ${request.headers.authorization ?? ''}` }));
    });
    expect(await send(url)).toEqual({ kind: 'unauthorized', status: 401, reason: 'no such token: Bearer [secret]' });
  });

  test('is unknown with the time that the server asks for', async () => {
    const url = await serve(answering(429, '', { 'retry-after': '7' }));
    expect(await send(url)).toEqual({
      kind: 'unknown',
      status: 429,
      reason: 'Too Many Requests',
      retryAfterMs: 7000,
      mayLandLate: false,
    });
    const at = await serve(answering(503, '', { 'retry-after': 'Wed, 01 May 2024 12:00:09 GMT' }));
    const clock = { now: () => Date.parse('2024-05-01T12:00:00Z') };
    expect(await send(at, { clock })).toMatchObject({ kind: 'unknown', status: 503, retryAfterMs: 9000 });
  });

  test('does not follow a redirect, and takes the token nowhere', async () => {
    let elsewhere = 0;
    const target = await serve((_, response) => {
      elsewhere += 1;
      response.end();
    });
    for (const status of [301, 302, 303, 307, 308]) {
      const url = await serve(answering(status, '', { location: `${target}/v1/provisioning/${DEVICE}` }));
      expect(await send(url)).toMatchObject({ kind: 'unknown', status });
    }
    expect(elsewhere).toBe(0);
  });
});

describe('a send without a clear answer', () => {
  test('is unknown where nobody listens', async () => {
    const server = createTcpServer();
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise(resolve => server.close(resolve));
    expect(await send(`http://127.0.0.1:${port}`)).toEqual({
      kind: 'unknown',
      status: null,
      reason: 'connection refused (ECONNREFUSED)',
      retryAfterMs: null,
      mayLandLate: false,
    });
  });

  test('is unknown where the connection breaks', async () => {
    const url = await serve(request => request.socket.resetAndDestroy());
    expect(await send(url)).toMatchObject({ kind: 'unknown', status: null, reason: 'connection reset (ECONNRESET)' });
  });

  test('is unknown where something else than HTTP answers', async () => {
    const answer = await send(`http://${await serveTcp(socket => socket.end('SSH-2.0-OpenSSH_9\r\n'))}`);
    expect(answer).toMatchObject({ kind: 'unknown', status: null });
  });

  test('is unknown at the deadline where no answer comes', async () => {
    const url = await serve(request => request.resume());
    expect(await send(url, { timeoutMs: 2000 })).toEqual({
      kind: 'unknown',
      status: null,
      reason: 'no answer within 2000 ms',
      retryAfterMs: null,
      mayLandLate: true,
    });
  });

  test('can not land late where no connection had come about by the deadline', async () => {
    const silent = await serveTcp(() => undefined); // which shakes no hands of TLS
    const answer = await send(`https://${silent}`, { timeoutMs: 200 });
    expect(answer).toMatchObject({ kind: 'unknown', reason: 'no answer within 200 ms', mayLandLate: false });
  });

  test('is unknown where the signal aborts, before it and in its midst', async () => {
    const arrived = new EventEmitter();
    const url = await serve(() => arrived.emit('request'));
    const interrupted = { kind: 'unknown', status: null, reason: 'interrupted before an answer came' };
    expect(await send(url, { signal: AbortSignal.abort() })).toMatchObject(interrupted);
    const controller = new AbortController();
    arrived.once('request', () => controller.abort());
    const answer = send(url, { signal: controller.signal });
    expect(await answer).toMatchObject(interrupted);
  });
});

describe('the body of an answer', () => {
  const endless = (status: number) => (_: IncomingMessage, response: ServerResponse) => {
    response.writeHead(status);
    const chunk = Buffer.alloc(16_384, 'x');
    const more = (): void => {
      while (!response.destroyed && response.write(chunk));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  };

  test('without an end is left after 64 KiB, long before the deadline', async () => {
    const url = await serve(endless(400));
    const startedAt = performance.now();
    expect(await send(url, { timeoutMs: 60_000 })).toEqual({ kind: 'refused', status: 400, reason: 'Bad Request' });
    expect(performance.now() - startedAt).toBeLessThan(30_000);
  });

  test('that never comes costs the words and not the verdict', async () => {
    for (const [status, expected] of [
      [200, { kind: 'accepted', status: 200 }],
      [403, { kind: 'refused', status: 403, reason: 'Forbidden' }],
    ] as const) {
      const url = await serve((_, response) => {
        response.writeHead(status).flushHeaders();
      });
      expect(await send(url, { timeoutMs: 2000 })).toEqual(expected);
    }
  });

  test('that breaks off costs the words and not the verdict', async () => {
    const url = await serve((request, response) => {
      response.writeHead(400, { 'content-length': '1000' });
      response.write('{"error":"half', () => request.socket.resetAndDestroy());
    });
    expect(await send(url)).toEqual({ kind: 'refused', status: 400, reason: 'Bad Request' });
  });
});

describe('the token', () => {
  const create = (url: string, insecure = false, token = TOKEN): unknown => {
    try {
      return createCloudClient({ url, token: new Secret(token), timeoutMs: 1000, insecure });
    } catch (thrown) {
      return thrown;
    }
  };

  test.each([
    'https://api.particle.io',
    'http://localhost:8080',
    'http://cloud.localhost',
    'http://127.0.0.1',
    'http://127.1:80',
    'http://[::1]:8080/base',
  ])('may go to %s', url => {
    expect(create(url)).not.toBeInstanceOf(Error);
  });

  test.each([
    'http://api.particle.io',
    'http://10.0.0.7:8080',
    'http://127.0.0.1.example',
    'http://localhost.example',
    'http://0.0.0.0',
    'http://[::ffff:7f00:1]',
  ])('may go to %s only where that is allowed', url => {
    const fault = create(url);
    expect(fault).toMatchObject({ code: 'CLOUD_INSECURE' });
    expect(create(url, true)).not.toBeInstanceOf(Error);
  });

  test('may go to no URL that is none, or that has a password', () => {
    for (const url of ['api.particle.io', 'ftp://host', 'https://user:hunter3@host', '']) {
      const fault = create(url, true);
      expect(fault).toMatchObject({ code: 'CONFIG_INVALID' });
      expect((fault as Fault).message).not.toContain('hunter3');
    }
  });

  test('that no header can hold is refused without being shown', () => {
    for (const token of ['', 'two words', 'hunter2\r\nX-Evil: 1', 'hunter2é']) {
      const fault = create('https://host', false, token);
      expect(fault).toMatchObject({ code: 'CONFIG_INVALID' });
      expect((fault as Fault).message).not.toContain('hunter2');
    }
  });

  test('does not show when the client is printed', () => {
    expect(inspect(create('https://host'), { depth: 9, showHidden: true })).not.toContain(TOKEN);
  });
});
