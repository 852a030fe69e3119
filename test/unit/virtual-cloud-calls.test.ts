import { afterEach, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import {
  parseCloudFault,
  startVirtualCloud,
  type VirtualCloud,
  type VirtualCloudOptions,
} from '#src/sim/virtual-cloud.ts';

const A = parseDeviceId('1b003b000347343138333037')!;
const B = parseDeviceId('2c003c000447343138333038')!;

let cloud: VirtualCloud | null = null;
afterEach(async () => {
  await cloud?.close();
  cloud = null;
});

async function start(faults: string[] = [], options: VirtualCloudOptions = {}): Promise<VirtualCloud> {
  cloud = await startVirtualCloud({ ...options, faults: faults.map(parseCloudFault) });
  return cloud;
}

/** @returns the status and the JSON of the answer */
async function ask(method: string, path: string, body?: unknown, token = 'any'): Promise<[number, unknown]> {
  const response = await fetch(`${cloud!.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return [response.status, await response.json()];
}

test('claim codes are of 63 characters, each another, and are told to whoever looks', async () => {
  const { claimCodes } = await start();
  const [status, first] = await ask('POST', '/v1/device_claims', {});
  const [, second] = await ask('POST', '/v1/products/my-product/device_claims', {});
  expect(status).toBe(200);
  expect(claimCodes).toEqual([
    { code: (first as { claim_code: string }).claim_code, product: null },
    { code: (second as { claim_code: string }).claim_code, product: 'my-product' },
  ]);
  for (const { code } of claimCodes) expect(code).toMatch(/^[A-Za-z0-9+/]{63}$/);
  expect(claimCodes[0]!.code).not.toBe(claimCodes[1]!.code);
});

test('a device has the name and the product that it was given last, and says so', async () => {
  const started = await start();
  expect([started.nameOf(A), started.productOf(A)]).toEqual([null, null]);
  await ask('PUT', `/v1/devices/${A}`, { name: 'A-01' });
  await ask('PUT', `/v1/devices/${A}`, { name: 'A-02' });
  expect(await ask('POST', '/v1/products/4711/devices', { id: A })).toEqual([
    200,
    { updated: 1, nonmemberDeviceIds: [], invalidDeviceIds: [] },
  ]);
  expect([started.nameOf(A), started.productOf(A), started.nameOf(B)]).toEqual(['A-02', '4711', null]);
  expect(await ask('GET', `/v1/devices/${A}`)).toEqual([
    200,
    {
      id: A,
      name: 'A-02',
      platform_id: 6,
      product_id: '4711',
      connected: false,
      online: false,
      last_handshake_at: null,
    },
  ]);
});

test('what is no name is refused, and what is no device of the account is told as such', async () => {
  await start([], { deviceIds: [A] });
  expect(await ask('PUT', `/v1/devices/${A}`, {})).toMatchObject([400, { error: 'name is missing' }]);
  expect(await ask('PUT', `/v1/devices/${B}`, { name: 'B' })).toMatchObject([403, {}]);
  expect(await ask('POST', '/v1/products/1/devices', { id: B })).toMatchObject([200, { invalidDeviceIds: [B] }]);
  expect(await ask('POST', '/v1/products/1/devices', { id: 'x' })).toMatchObject([200, { invalidDeviceIds: ['x'] }]);
  expect([cloud!.nameOf(B), cloud!.productOf(B)]).toEqual([null, null]);
});

test('they want the token', async () => {
  await start([], { token: 'secret' });
  for (const [method, path] of [
    ['POST', '/v1/device_claims'],
    ['POST', '/v1/products/1/devices'],
    ['PUT', `/v1/devices/${A}`],
  ] as const) {
    expect((await ask(method, path, {}, 'another'))[0]).toBe(401);
  }
  expect(cloud!.claimCodes).toEqual([]);
});

test.each([
  ['claims', 'POST', '/v1/device_claims', {}],
  ['products', 'POST', '/v1/products/1/devices', { id: A }],
  ['names', 'PUT', `/v1/devices/${A}`, { name: 'A' }],
  ['devices', 'GET', `/v1/devices/${A}`, undefined],
] as const)('a fault of %s alone leaves the others alone', async (about, method, path, body) => {
  await start([`${about}:status:503:1`, `device:${B}:status:500`]);
  const others = [
    ['POST', '/v1/products/2/device_claims', {}, 'claims'],
    ['POST', '/v1/products/2/devices', { id: A }, 'products'],
    ['PUT', `/v1/devices/${A}`, { name: 'B' }, 'names'],
    ['GET', `/v1/devices/${A}`, undefined, 'devices'],
  ] as const;
  for (const [otherMethod, otherPath, otherBody, kind] of others) {
    if (kind !== about) expect((await ask(otherMethod, otherPath, otherBody))[0]).toBe(200);
  }
  expect((await ask(method, path, body))[0]).toBe(503);
  expect((await ask(method, path, body))[0]).toBe(200);
});

test('a fault of one device strikes a product’s request by the device in its body', async () => {
  await start([`products:device:${A}:status:503`]);
  expect((await ask('POST', '/v1/products/1/devices', { id: A }))[0]).toBe(503);
  expect((await ask('POST', '/v1/products/1/devices', { id: B }))[0]).toBe(200);
});

test('one that is lost has been carried out', async () => {
  await start(['names:lost']);
  await expect(ask('PUT', `/v1/devices/${A}`, { name: 'A' })).rejects.toThrow();
  expect(cloud!.nameOf(A)).toBe('A');
});
