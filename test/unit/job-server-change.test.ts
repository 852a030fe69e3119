import { describe, expect, test } from 'vitest';
import { applyServerChange, changesServer, type ServerChange } from '#src/job/server-change.ts';
import { DCT } from '#src/photon/dct.ts';
import { readJob, rekeyText } from '../support/job-text.ts';

const KEEP: ServerChange = { key: 'keep', host: null, port: null };
const KEY = Uint8Array.from({ length: 294 }, (_, i) => (i * 7 + 1) & 0xff);

/** The server's field after a change, over a DCT of nothing but `filler`; the rest of the DCT is as it was. */
function fieldAfter(change: Partial<ServerChange>, filler = 0x5a): Buffer {
  const dct = Buffer.alloc(DCT.LENGTH, filler);
  applyServerChange(dct, { ...KEEP, ...change });
  expect(dct.subarray(0, 2082).every(byte => byte === filler)).toBe(true);
  expect(dct.subarray(2850).every(byte => byte === filler)).toBe(true);
  return dct.subarray(2082, 2850);
}

function all(bytes: Uint8Array, value: number): boolean {
  return bytes.every(byte => byte === value);
}

describe('a change of the server', () => {
  test('that keeps everything changes nothing', () => {
    expect(all(fieldAfter({}), 0x5a)).toBe(true);
    expect(changesServer(KEEP)).toBe(false);
  });

  test('to another key writes its 294 bytes, and blanks the rest as far as the address', () => {
    const field = fieldAfter({ key: KEY });
    expect(field.subarray(0, 294)).toEqual(Buffer.from(KEY));
    expect(all(field.subarray(294, 384), 0xff)).toBe(true);
    expect(all(field.subarray(384), 0x5a)).toBe(true);
  });

  test('to the built-in server blanks the whole field, address and port too', () => {
    expect(all(fieldAfter({ key: 'builtin' }), 0xff)).toBe(true);
  });

  test('to an IPv4 address is type 0, length 4 and its octets, the rest of the block blank', () => {
    const field = fieldAfter({ host: '192.168.1.254' });
    expect([...field.subarray(384, 390)]).toEqual([0, 4, 192, 168, 1, 254]);
    expect(all(field.subarray(390, 450), 0xff)).toBe(true);
    expect(all(field.subarray(0, 384), 0x5a)).toBe(true);
    expect(all(field.subarray(450), 0x5a)).toBe(true);
  });

  test('to a domain is type 1, its length, its letters and a NUL', () => {
    const field = fieldAfter({ host: 'device.spark.io' });
    expect(field.subarray(384, 402).toString('latin1')).toBe('\u0001\u000fdevice.spark.io\0');
    expect(all(field.subarray(402, 450), 0xff)).toBe(true);
  });

  test('to a domain of 63 characters fills the block to its last byte, and not the port behind it', () => {
    const host = `${'a'.repeat(59)}.com`;
    const field = fieldAfter({ host });
    expect([field[384], field[385]]).toEqual([1, 63]);
    expect(field.subarray(386, 449).toString('latin1')).toBe(host);
    expect([field[449], field[450], field[451]]).toEqual([0, 0x5a, 0x5a]);
    expect(readJob(rekeyText({ write: `write: { server-host: ${host} }` })).plan.server.host).toBe(host);
  });

  test('to another port is two bytes, the high one first', () => {
    const field = fieldAfter({ port: 0x1634 });
    expect([field[449], field[450], field[451], field[452]]).toEqual([0x5a, 0x16, 0x34, 0x5a]);
    expect([fieldAfter({ port: 1 })[450], fieldAfter({ port: 1 })[451]]).toEqual([0, 1]);
    expect([...fieldAfter({ port: 65534 }).subarray(450, 452)]).toEqual([0xff, 0xfe]);
  });

  test('of everything at once lays each over the blank of the key', () => {
    for (const key of ['builtin', KEY] as const) {
      const field = fieldAfter({ key, host: '10.0.0.1', port: 5683 });
      expect([...field.subarray(384, 390)]).toEqual([0, 4, 10, 0, 0, 1]);
      expect(field.readUInt16BE(450)).toBe(5683);
      expect(all(field.subarray(452), key === 'builtin' ? 0xff : 0x5a)).toBe(true);
    }
  });

  test.each([{ key: 'builtin' }, { key: KEY }, { host: 'a' }, { port: 1 }] as const)('is one: %j', change => {
    expect(changesServer({ ...KEEP, ...change })).toBe(true);
  });
});
