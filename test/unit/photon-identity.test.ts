import { describe, expect, test } from 'vitest';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { bootloaderOf, idFromDct, idFromSerial, recognize } from '#src/photon/identity.ts';

const ID = '0123456789abcdef01234567';

function dctWith(id: Uint8Array): Buffer {
  const dct = Buffer.alloc(DCT.LENGTH, 0xff);
  dct.set(id, 3618);
  return dct;
}

describe('a device on the bus', () => {
  test.each([
    [0xd006, { platform: 'photon', mode: 'dfu' }],
    [0xd008, { platform: 'p1', mode: 'dfu' }],
    [0xc006, { platform: 'photon', mode: 'normal' }],
    [0xc008, { platform: 'p1', mode: 'normal' }],
    [0xd00a, null],
    [0xc00a, null],
    [0xd007, null],
    [0, null],
  ])("with Particle's vendor ID and product ID %i is told by it", (productId, expected) => {
    expect(recognize(0x2b04, productId)).toEqual(expected);
  });

  test("of another vendor is none of ours, ST's own DFU bootloader among them", () => {
    expect([recognize(0x0483, 0xdf11), recognize(0x0483, 0xd006)]).toEqual([null, null]);
  });

  test('has an old bootloader below release 0x0250', () => {
    expect([0x0200, 0x024f, 0x0250, 0x0251, 0xffff].map(bootloaderOf)).toEqual(['old', 'old', 'new', 'new', 'new']);
  });
});

describe('the ID in the USB serial', () => {
  test('is in lower case, though some bootloaders write it in capitals', () => {
    expect(idFromSerial(0x0250, ID.toUpperCase())).toBe(ID);
    expect(idFromSerial(0x0250, ID)).toBe(ID);
  });

  test('is not looked for in an old bootloader, though its serial were an ID', () => {
    expect(idFromSerial(0x0200, '00000000010C')).toBeNull();
    expect(idFromSerial(0x0200, ID)).toBeNull();
  });

  test.each([null, '', '00000000010C', ID.slice(1), `${ID}0`, `0x${ID.slice(2)}`, ID.replace('a', 'g'), `${ID}\0`])(
    'is not in %j',
    serial => {
      expect(idFromSerial(0x0250, serial)).toBeNull();
    },
  );
});

describe('the ID in the DCT', () => {
  test('is 12 raw bytes at 3618', () => {
    expect(idFromDct(dctWith(Buffer.from(ID, 'hex')))).toBe(ID);
    const mostly = Buffer.alloc(12, 0xff);
    mostly[11] = 0xfe;
    expect(idFromDct(dctWith(mostly))).toBe(`${'f'.repeat(23)}e`);
  });

  test('is none where it is blank, zero, or not there', () => {
    expect(idFromDct(dctWith(Buffer.alloc(12, 0xff)))).toBeNull();
    expect(idFromDct(dctWith(Buffer.alloc(12)))).toBeNull();
    expect(idFromDct(new Uint8Array(0))).toBeNull();
    expect(idFromDct(dctWith(Buffer.from(ID, 'hex')).subarray(0, 3620))).toBeNull();
  });
});

describe('the map of the DCT', () => {
  test('has fields that do not overlap, inside what may be read and written', () => {
    const fields = [DCT.FLAGS, DCT.DEVICE_PRIVATE_KEY, DCT.DEVICE_PUBLIC_KEY, DCT.SERVER_PUBLIC_KEY, DCT.DEVICE_ID];
    for (const [index, { offset }] of fields.entries()) {
      const before = fields[index - 1];
      if (before) expect(offset).toBeGreaterThanOrEqual(before.offset + before.length);
    }
    expect(DCT.DEVICE_ID.offset + DCT.DEVICE_ID.length).toBeLessThanOrEqual(DCT.LENGTH);
    const { SERVER_ADDRESS: address, SERVER_PORT: port, SERVER_PUBLIC_KEY: key } = DCT;
    expect([address.offset + address.length, port.offset + port.length]).toEqual([port.offset, key.offset + 452]);
  });

  test('gives a field as a view on the bytes', () => {
    const dct = Buffer.alloc(DCT.LENGTH);
    fieldOf(dct, DCT.DEVICE_PUBLIC_KEY).fill(7);
    expect([dct[1249], dct[1250], dct[1633], dct[1634]]).toEqual([0, 7, 7, 0]);
  });
});
