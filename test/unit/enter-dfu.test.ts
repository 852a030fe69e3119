import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseServiceReply } from '#src/dfu/enter-dfu.ts';

/** As device-os writes one: flags, then the fields that they name, little endian. */
function replyOf(status: number, id?: number, size?: number, result?: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(1 | (id === undefined ? 0 : 2) | (size === undefined ? 0 : 4) | (result === undefined ? 0 : 8));
  let at = bytes.writeUInt16LE(status, 4);
  if (id !== undefined) at = bytes.writeUInt16LE(id, at);
  if (size !== undefined) at = bytes.writeUInt32LE(size, at);
  if (result !== undefined) at = bytes.writeInt32LE(result, at);
  return bytes.subarray(0, at);
}

describe('a reply of the service protocol', () => {
  test.each([
    ['a status alone', replyOf(2), { status: 2, id: null, result: null }],
    ['an ID', replyOf(2, 0xbeef), { status: 2, id: 0xbeef, result: null }],
    ['a size between ID and result', replyOf(0, 7, 0x01020304, -1), { status: 0, id: 7, result: -1 }],
    ['a result without an ID', replyOf(0, undefined, undefined, -260), { status: 0, id: null, result: -260 }],
  ])('with %s', (_, bytes, expected) => {
    expect(parseServiceReply(bytes)).toEqual(expected);
  });

  test('that is cut anywhere, or has no status, is none', () => {
    const whole = replyOf(0, 7, 9, 1);
    for (let length = 0; length < whole.length; length += 1) {
      expect(parseServiceReply(whole.subarray(0, length))).toBeNull();
    }
    expect(parseServiceReply(Buffer.from([2, 0, 0, 0, 7, 0, 7, 0]))).toBeNull();
  });

  test('of any bytes is none or one with numbers in range', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), bytes => {
        const reply = parseServiceReply(bytes);
        if (reply === null) return;
        expect(reply.status).toBeLessThanOrEqual(0xffff);
        expect(reply.id ?? 0).toBeLessThanOrEqual(0xffff);
        expect(Math.abs(reply.result ?? 0)).toBeLessThanOrEqual(2 ** 31);
      }),
    );
  });
});
