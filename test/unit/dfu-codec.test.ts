import { describe, expect, test } from 'vitest';
import { dfuSetup, parseStatus, setPointerCommand, STATE, stateName } from '#src/dfu/codec.ts';

describe('the bytes of DFU', () => {
  test('GETSTATUS is status, a poll timeout of 24 bits, state and a string index', () => {
    expect(parseStatus(Uint8Array.of(14, 0xf4, 0x01, 0, 10, 0))).toEqual({ status: 14, pollTimeoutMs: 500, state: 10 });
    expect(parseStatus(Uint8Array.of(0, 1, 2, 3, 4, 9))).toEqual({ status: 0, pollTimeoutMs: 0x030201, state: 4 });
    expect(parseStatus(Uint8Array.of(0, 0xff, 0xff, 0xff, 4, 0))?.pollTimeoutMs).toBe(0xffffff);
  });

  test.each([0, 1, 5, 7, 64])('GETSTATUS of %i bytes is none', length => {
    expect(parseStatus(new Uint8Array(length))).toBeNull();
  });

  test('a request goes to interface 0, its number and value as DFU has them', () => {
    expect(dfuSetup('UPLOAD', 3)).toEqual({
      requestType: 'class',
      recipient: 'interface',
      request: 2,
      value: 3,
      index: 0,
    });
    const numbers = (['DETACH', 'DNLOAD', 'UPLOAD', 'GETSTATUS', 'CLRSTATUS', 'GETSTATE', 'ABORT'] as const).map(
      name => dfuSetup(name).request,
    );
    expect(numbers).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test('set pointer is 0x21 and the address, little endian', () => {
    expect(Buffer.from(setPointerCommand(0x08020000)).toString('hex')).toBe('2100000208');
    expect(Buffer.from(setPointerCommand(34)).toString('hex')).toBe('2122000000');
    expect(Buffer.from(setPointerCommand(0xffffffff)).toString('hex')).toBe('21ffffffff');
  });

  test('states have the names of the specification in messages, and unknown ones their number', () => {
    expect(Object.values(STATE).map(stateName)).toMatchInlineSnapshot(`
      [
        "dfuIDLE",
        "dfuDNLOAD-SYNC",
        "dfuDNBUSY",
        "dfuDNLOAD-IDLE",
        "dfuMANIFEST-SYNC",
        "dfuMANIFEST",
        "dfuWAIT-RESET",
        "dfuUPLOAD-IDLE",
        "dfuERROR",
      ]
    `);
    expect(stateName(15)).toBe('state 15');
  });
});
