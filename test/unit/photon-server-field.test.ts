import { expect, test } from 'vitest';
import { applyServerChange } from '#src/job/server-change.ts';
import { DCT } from '#src/photon/dct.ts';
import { serverIn } from '#src/photon/server-field.ts';

const KEY = Uint8Array.from({ length: 294 }, (_, i) => (i * 7 + 1) & 0xff);

test.each([
  ['10.1.2.3', 4711],
  ['device.spark.io', 5683],
  [`${'a'.repeat(59)}.com`, 1],
])('the server is read as it was written: %s, port %i', (host, port) => {
  const dct = Buffer.alloc(DCT.LENGTH, 0xff);
  applyServerChange(dct, { key: KEY, host, port });
  const field = serverIn(dct);
  expect(field).toMatchObject({ host, port });
  expect(Buffer.from(field.key ?? [])).toEqual(Buffer.from(KEY));
});

test('a blank field is the server that is built in', () => {
  expect(serverIn(Buffer.alloc(DCT.LENGTH, 0xff))).toEqual({ key: null, host: null, port: 5683 });
});

test('an address that makes no sense is none', () => {
  const dct = Buffer.alloc(DCT.LENGTH, 0);
  for (const bytes of [
    [1, 0],
    [1, 64],
    [1, 3, 0x61, 0, 0x62],
    [2, 4, 1, 2, 3, 4],
    [0, 5, 1, 2, 3, 4, 5],
  ]) {
    dct.set(bytes, DCT.SERVER_ADDRESS.offset);
    expect(serverIn(dct)).toMatchObject({ host: null, port: 5683 });
  }
});
