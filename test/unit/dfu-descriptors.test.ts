import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeString, parseConfiguration, parseDevice, readDescriptors } from '#src/dfu/descriptors.ts';
import { benchPort } from '../support/dfu-bench.ts';
import { alternate, configuration, FUNCTIONAL, ScriptedPort, stringDescriptor } from '../support/scripted-port.ts';

describe('the descriptors of a device in DFU mode', () => {
  test.each(['photon', 'p1'] as const)(
    'of a %s name its IDs, its serial, its memories and the size of a block',
    async platform => {
      const { port } = await benchPort(null, { platform, bootloader: 'new' });
      await port.open();
      const read = await readDescriptors(port);
      expect(read).toMatchObject({
        vendorId: 0x2b04,
        productId: platform === 'p1' ? 0xd008 : 0xd006,
        release: 0x0250,
        transferSize: 4096,
        dfuVersion: 0x011a,
      });
      expect(read.serialNumber).toMatch(/^[0-9A-F]{24}$/);
      expect(read.alternates.map(({ number, name }) => `${number} ${name.split('/')[0]!.trim()}`)).toEqual(
        ['0 @Internal Flash', '1 @DCT Flash', '2 @Serial Flash'].slice(0, platform === 'p1' ? 3 : 2),
      );
      await port.close();
    },
  );

  test('without a serial say null, and a setting whose name is refused has none', async () => {
    const port = new ScriptedPort({
      descriptors: { 0x100: Uint8Array.from([18, 1, 0, 2, 0, 0, 0, 64, 4, 43, 6, 208, 0, 2, 1, 2, 0, 1]), 0x306: null },
    });
    const read = await readDescriptors(port);
    expect(read.serialNumber).toBeNull();
    expect(read.alternates[0]).toEqual({ number: 0, name: '' });
  });

  test('with a serial that is not UTF-16 say null', async () => {
    const lone = Uint8Array.of(4, 3, 0x00, 0xd8);
    expect((await readDescriptors(new ScriptedPort({ descriptors: { 0x303: lone } }))).serialNumber).toBeNull();
  });

  test.each([
    ['the device descriptor', { 0x100: null }],
    ['the device descriptor', { 0x100: new Uint8Array(0) }],
    ['the device descriptor', { 0x100: Uint8Array.from([18, 1, 0, 2, 0, 0, 0, 64, 4, 43]) }],
    ['the device descriptor', { 0x100: new Uint8Array(18) }],
    ['the configuration descriptor', { 0x200: null }],
    ['the configuration descriptor', { 0x200: new Uint8Array(0) }],
    ['the configuration descriptor', { 0x200: configuration(FUNCTIONAL) }],
  ])('that make no sense are refused, naming %s', async (what, descriptors) => {
    await expect(readDescriptors(new ScriptedPort({ descriptors }))).rejects.toMatchObject({
      code: 'DESCRIPTOR_INVALID',
      message: `${what} makes no sense`,
      facts: { path: '1-1.1' },
    });
  });
});

test('a device descriptor that is none is null', () => {
  expect(parseDevice(Buffer.alloc(18))).toBeNull();
  expect(parseDevice(Buffer.from('1201000200000040042b06d050020102030', 'hex'))).toBeNull();
});

describe('the chain of a configuration', () => {
  test('may hold other descriptors and other interfaces, which are passed over', () => {
    const other = [9, 4, 1, 0, 0, 0x03, 0, 0, 0];
    const vendor = [3, 0x99, 7];
    expect(parseConfiguration(configuration(vendor, alternate(0, 6), other, FUNCTIONAL, vendor))).toEqual({
      alternates: [{ number: 0, nameIndex: 6 }],
      transferSize: 4096,
      dfuVersion: 0x011a,
    });
  });

  test('is none where interface 0 is not for DFU', () => {
    for (const [at, value] of [
      [5, 0x03],
      [6, 0x02],
    ] as const) {
      const wrong = alternate(0, 6);
      wrong[at] = value;
      expect(parseConfiguration(configuration(wrong, FUNCTIONAL))).toBeNull();
    }
  });

  test('is none without an interface, and without a functional descriptor', () => {
    expect(parseConfiguration(configuration(FUNCTIONAL))).toBeNull();
    expect(parseConfiguration(configuration(alternate(0, 6)))).toBeNull();
    expect(parseConfiguration(configuration(alternate(0, 6), FUNCTIONAL.slice(0, 7)))).toBeNull();
    expect(parseConfiguration(new Uint8Array(0))).toBeNull();
  });

  test.each([0, 1])('is none where a descriptor says that it has %i bytes, which would never end', length => {
    expect(parseConfiguration(configuration(alternate(0, 6), FUNCTIONAL, [length, 4, 0, 0]))).toBeNull();
    expect(parseConfiguration(configuration(alternate(0, 6), FUNCTIONAL, [length]))).toBeNull();
  });

  test('is none where a descriptor says that it is longer than what is there', () => {
    const whole = configuration(alternate(0, 6), FUNCTIONAL);
    expect(parseConfiguration(Uint8Array.from([...whole, 3, 0x99]))).toBeNull();
    for (let cut = 1; cut < FUNCTIONAL.length; cut += 1) {
      expect(parseConfiguration(whole.slice(0, whole.length - cut))).toBeNull();
    }
  });

  test('may have 16 alternate settings at most', () => {
    const many = (count: number) =>
      configuration(...Array.from({ length: count }, (_, number) => alternate(number, 6)), FUNCTIONAL);
    expect(parseConfiguration(many(16))?.alternates).toHaveLength(16);
    expect(parseConfiguration(many(17))).toBeNull();
  });

  test('of any bytes is null or a few settings, and nothing is thrown', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 512 }),
      fc
        .array(fc.oneof(fc.constant(alternate(0, 1)), fc.constant([...FUNCTIONAL]), fc.array(fc.nat(255))))
        .map(parts => configuration(...parts)),
    );
    fc.assert(
      fc.property(bytes, each => {
        expect(parseConfiguration(each)?.alternates.length ?? 0).toBeLessThanOrEqual(16);
      }),
      { numRuns: 200 },
    );
  });
});

describe('a string descriptor', () => {
  test('is the text that was put into it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), text => {
        fc.pre(Buffer.byteLength(text, 'utf16le') <= 250 && !text.startsWith('\ufeff'));
        expect(decodeString(stringDescriptor(text))).toBe(text);
      }),
      { numRuns: 100 },
    );
  });

  test('ends where it says, whatever comes after it', () => {
    expect(decodeString(Uint8Array.of(4, 3, 0x41, 0, 0x42, 0))).toBe('A');
    expect(decodeString(Uint8Array.of(2, 3))).toBe('');
  });

  test.each([
    ['nothing', []],
    ['a length of 0', [0, 3, 0x41, 0]],
    ['a length of 1', [1, 3]],
    ['an odd length', [5, 3, 0x41, 0, 0x42]],
    ['more than is there', [6, 3, 0x41, 0]],
    ['another type', [4, 2, 0x41, 0]],
    ['a lone high surrogate', [4, 3, 0x00, 0xd8]],
    ['a lone low surrogate', [6, 3, 0x00, 0xdc, 0x41, 0]],
    ['surrogates in the wrong order', [6, 3, 0x00, 0xdc, 0x00, 0xd8]],
  ])('with %s is none', (_, bytes) => {
    expect(decodeString(Uint8Array.from(bytes))).toBeNull();
  });
});
