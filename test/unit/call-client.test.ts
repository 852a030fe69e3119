import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import { createCallClient, type CallClient } from '#src/cloud/call-client.ts';
import { callOf, type CallKind } from '#src/core/cloud-calls.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import { Secret } from '#src/core/secret.ts';

const DEVICE = parseDeviceId('1b003b000347343138333037')!;
const TOKEN = 'hunter2-0123456789abcdef';
const CODE = 'abcDEF012+/'.repeat(6).slice(0, 63);

interface Seen {
  readonly method: string | undefined;
  readonly path: string | undefined;
  readonly authorization: string | undefined;
  readonly body: unknown;
}

let close: (() => Promise<void>) | null = null;
afterEach(async () => {
  await close?.();
  close = null;
});

/** A cloud that answers so, and a client of it. */
async function cloud(
  answer: (response: ServerResponse, request: IncomingMessage) => void,
  timeoutMs = 5000,
): Promise<{ client: CallClient; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    void request.toArray().then(chunks => {
      const { method, url: path, headers } = request;
      const text = Buffer.concat(chunks as Buffer[]).toString();
      const body = text === '' ? null : (JSON.parse(text) as unknown);
      seen.push({ method, path, authorization: headers.authorization, body });
      answer(response, request);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  close = async () => {
    const closed = new Promise(resolve => server.close(resolve));
    server.closeAllConnections();
    await closed;
  };
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { client: createCallClient({ url, token: new Secret(TOKEN), timeoutMs, insecure: false }), seen };
}

const saying =
  (status: number, body: unknown, headers: Record<string, string> = {}) =>
  (response: ServerResponse): void => {
    response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
  };

describe('a claim code', () => {
  test.each([
    [null, '/v1/device_claims'],
    ['4711', '/v1/products/4711/device_claims'],
    ['my product/2', '/v1/products/my%20product%2F2/device_claims'],
  ])('is asked for, of the product %s', async (product, path) => {
    const { client, seen } = await cloud(saying(200, { claim_code: CODE, device_ids: [] }));
    const answer = await client.claimCode(product);
    expect(answer.kind === 'code' && answer.code.reveal()).toBe(CODE);
    expect(seen).toEqual([{ method: 'POST', path, authorization: `Bearer ${TOKEN}`, body: {} }]);
    expect(inspect(answer) + JSON.stringify(answer)).not.toContain(CODE);
  });

  test.each([
    ['too short', { claim_code: CODE.slice(1) }],
    ['too long', { claim_code: `${CODE}=` }],
    ['with a NUL', { claim_code: `${CODE.slice(1)}\0` }],
    ['with another letter', { claim_code: `${CODE.slice(1)}-` }],
    ['no text', { claim_code: 63 }],
    ['not there', { ok: true }],
    ['in a list', [{ claim_code: CODE }]],
    ['in a page of HTML', '<html>fine</html>'],
    ['in an empty body', ''],
  ])('that is %s is none', async (_, body) => {
    const { client } = await cloud(saying(200, body));
    expect(await client.claimCode(null)).toEqual({ kind: 'invalid', status: 200 });
  });

  test('can not be had where the answer breaks off', async () => {
    const { client } = await cloud(response => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write(`{"claim_code":"${CODE}"`, () => response.socket?.destroy());
    });
    expect(await client.claimCode(null)).toEqual({
      kind: 'unavailable',
      status: 200,
      reason: 'its answer broke off',
    });
  });

  test.each([500, 503, 408, 429, 302])('can not be had where the cloud says %i', async status => {
    const { client } = await cloud(saying(status, { error: 'busy' }));
    expect(await client.claimCode(null)).toEqual({ kind: 'unavailable', status, reason: 'busy' });
  });

  test('is refused in the words of the cloud, and the token is not among them', async () => {
    const { client } = await cloud(saying(403, { error: `no claims for ${TOKEN}` }));
    expect(await client.claimCode(null)).toMatchObject({
      kind: 'refused',
      status: 403,
      reason: 'no claims for [secret]',
    });
  });

  test('401 says that the token is bad', async () => {
    const { client } = await cloud(saying(401, {}));
    expect(await client.claimCode(null)).toMatchObject({ kind: 'unauthorized', reason: 'Unauthorized' });
  });

  test('no answer before the deadline is none', async () => {
    const { client } = await cloud(() => undefined, 100);
    expect(await client.claimCode(null)).toEqual({
      kind: 'unavailable',
      status: null,
      reason: 'no answer within 100 ms',
    });
  });
});

const row = { deviceId: DEVICE, productId: '4711', name: 'A-01 "left"' };
const leased = (kind: CallKind, keyAcceptedAt: number | null = null) => ({ ...callOf(kind, row)!, keyAcceptedAt });
const addToProduct = leased('add-to-product');
const name = leased('name');

describe('a call', () => {
  test('adds a device to its product', async () => {
    const { client, seen } = await cloud(saying(200, { updated: 1, nonmemberDeviceIds: [], invalidDeviceIds: [] }));
    expect(await client.call(addToProduct)).toEqual({ kind: 'accepted', status: 200 });
    expect(seen).toMatchObject([{ method: 'POST', path: '/v1/products/4711/devices', body: { id: DEVICE } }]);
  });

  test('names a device', async () => {
    const { client, seen } = await cloud(saying(200, ''));
    expect(await client.call(name)).toEqual({ kind: 'accepted', status: 200 });
    expect(seen).toMatchObject([{ method: 'PUT', path: `/v1/devices/${DEVICE}`, body: { name: 'A-01 "left"' } }]);
  });

  test('of a device that the product does not take is refused, though with 200', async () => {
    const { client } = await cloud(saying(200, { updated: 0, invalidDeviceIds: [DEVICE] }));
    expect(await client.call(addToProduct)).toMatchObject({ kind: 'refused', status: 200 });
  });

  test.each([403, 404])('to name a device is not refused with %i: it may not be claimed yet', async status => {
    const { client } = await cloud(saying(status, { error: 'not yours' }));
    expect(await client.call(name)).toMatchObject({ kind: 'unknown', status, reason: 'not claimed yet: not yours' });
    expect(await client.call(addToProduct)).toMatchObject({ kind: 'refused', status, reason: 'not yours' });
  });

  const SENT_AT = Date.parse('2026-11-27T12:00:00Z');

  test.each([
    ['a later handshake', '2026-11-27T12:00:01.000Z', 'accepted'],
    ['an earlier one', '2026-11-27T11:59:59.000Z', 'unknown'],
    ['the same moment', '2026-11-27T12:00:00.000Z', 'unknown'],
    ['none', null, 'unknown'],
    ['no time', 'yesterday', 'unknown'],
  ])('that asks whether a device has connected: %s', async (_, last, kind) => {
    const { client, seen } = await cloud(saying(200, { id: DEVICE, online: true, last_handshake_at: last }));
    expect(await client.call(leased('confirm-online', SENT_AT))).toMatchObject({ kind, status: 200 });
    expect(seen).toMatchObject([{ method: 'GET', path: `/v1/devices/${DEVICE}` }]);
  });

  test('that asks after a device of which no key was accepted, or that is not claimed, is answered later', async () => {
    const { client } = await cloud(saying(200, { last_handshake_at: '2026-11-27T12:00:01.000Z' }));
    expect(await client.call(leased('confirm-online'))).toMatchObject({ kind: 'unknown' });
    const { client: other } = await cloud(saying(404, { error: 'not yours' }));
    expect(await other.call(leased('confirm-online', SENT_AT))).toMatchObject({ kind: 'unknown', status: 404 });
  });

  test('is judged by its status as a send is', async () => {
    const { client } = await cloud(saying(429, '', { 'retry-after': '7' }));
    expect(await client.call(name)).toMatchObject({ kind: 'unknown', status: 429, retryAfterMs: 7000 });
  });

  test('is not sent on to elsewhere', async () => {
    const { client, seen } = await cloud(saying(302, '', { location: '/elsewhere' }));
    expect(await client.call(name)).toMatchObject({ kind: 'unknown', status: 302 });
    expect(seen).toHaveLength(1);
  });

  test('is there for a row that says what it takes alone', () => {
    const bare = { deviceId: DEVICE, productId: null, name: null };
    expect([callOf('add-to-product', bare), callOf('name', bare)]).toEqual([null, null]);
  });
});
