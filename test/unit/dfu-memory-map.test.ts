import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseMemoryMap, runAt } from '#src/dfu/memory-map.ts';

const PHOTON = '@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg';

function sizeOf(run: string): number | undefined {
  return parseMemoryMap(`@x/0x0/${run}`)?.sectors[0]?.sizeBytes;
}

describe('a memory map', () => {
  test("of a Photon's flash is its sectors, one after the other", () => {
    expect(parseMemoryMap(PHOTON)).toMatchObject({
      name: 'Internal Flash',
      sectors: [
        { address: 0x08000000, count: 3, sizeBytes: 0x4000, writable: false },
        { address: 0x0800c000, count: 1, sizeBytes: 0x4000, writable: true },
        { address: 0x08010000, count: 1, sizeBytes: 0x10000 },
        { address: 0x08020000, count: 7, sizeBytes: 0x20000 },
      ],
    });
  });

  test("of a Photon's DCT begins at 0", () => {
    expect(parseMemoryMap('@DCT Flash   /0x00000000/01*016Kg')).toEqual({
      name: 'DCT Flash',
      sectors: [{ address: 0, count: 1, sizeBytes: 16384, readable: true, erasable: true, writable: true }],
    });
  });

  test.each([
    ['a', 'r--'],
    ['b', '-e-'],
    ['c', 're-'],
    ['d', '--w'],
    ['e', 'r-w'],
    ['f', '-ew'],
    ['g', 'rew'],
  ])('sector type %s means %s', (type, rights) => {
    const [run] = parseMemoryMap(`@x/0x0/1*1K${type}`)?.sectors ?? [];
    expect((run?.readable ? 'r' : '-') + (run?.erasable ? 'e' : '-') + (run?.writable ? 'w' : '-')).toBe(rights);
  });

  test('has sizes in bytes, with B, a blank or nothing, in K and in M', () => {
    expect([sizeOf('1*16Bg'), sizeOf('1*16 g'), sizeOf('1*16g')]).toEqual([16, 16, 16]);
    expect([sizeOf('1*16Kg'), sizeOf('1*16Mg')]).toEqual([16 * 1024, 16 * 1024 * 1024]);
  });

  test('may have several segments, each with its own address', () => {
    const map = parseMemoryMap('@Two /0x08000000/2*1Kg/0x1FFF0000/1*30Ka,2*16 e');
    expect(map?.sectors.map(({ address, sizeBytes }) => [address, sizeBytes])).toEqual([
      [0x08000000, 1024],
      [0x1fff0000, 30 * 1024],
      [0x1fff7800, 16],
    ]);
  });

  test('may end with the last byte of the address space, and not behind it', () => {
    expect(parseMemoryMap('@x/0xffff0000/64*1Kg')).not.toBeNull();
    expect(parseMemoryMap('@x/0xffff0000/65*1Kg')).toBeNull();
    expect(parseMemoryMap('@x/0x0/9999*9999Mg')).toBeNull();
  });

  test('may have 64 runs at most', () => {
    const runs = (count: number): string => `@x/0x0/${Array(count).fill('1*1Ka').join(',')}`;
    expect(parseMemoryMap(runs(64))?.sectors).toHaveLength(64);
    expect(parseMemoryMap(runs(65))).toBeNull();
  });

  test.each([
    ['', 'nothing'],
    ['Internal Flash /0x0/1*1Kg', 'no @'],
    ['@x', 'no segment'],
    ['@x/0x0', 'an address without sectors'],
    ['@x/0x0/', 'an empty list of sectors'],
    ['@x/0x0/1*1Kg/', 'a slash at the end'],
    ['@x/0x0/1*1Kg,', 'a comma at the end'],
    ['@x/08000000/1*1Kg', 'an address without 0x'],
    ['@x/0x123456789/1*1Kg', 'an address of nine digits'],
    ['@x/0x0/0*1Kg', 'no sector'],
    ['@x/0x0/1*0Kg', 'sectors of no bytes'],
    ['@x/0x0/-1*1Kg', 'a negative count'],
    ['@x/0x0/1*1Gg', 'an unknown unit'],
    ['@x/0x0/1*1Kh', 'an unknown type'],
    ['@x/0x0/1*1K', 'no type'],
    ['@x/0x0/1*1KG', 'a type in capitals'],
    ['@x/0x0/1x1Kg', 'no star'],
    ['@x/0x0/12345*1Kg', 'a count of five digits'],
    ['@x/0x0/١*1Kg', 'digits of another script'],
  ])('`%s` is none: %s', text => {
    expect(parseMemoryMap(text)).toBeNull();
  });

  test('of any text is null, or runs that stand in the address space, and nothing is thrown', () => {
    const piece = fc.constantFrom(
      '@',
      '/',
      '0x',
      '08000000',
      ',',
      '*',
      '16',
      '9999',
      'K',
      'M',
      'B',
      ' ',
      'g',
      'a',
      '\0',
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(piece, { maxLength: 30 }).map(all => all.join('')),
    );
    fc.assert(
      fc.property(
        text.map(each => (each.startsWith('@') ? each : `@${each}`)),
        each => {
          for (const run of parseMemoryMap(each)?.sectors ?? []) {
            expect(run.count * run.sizeBytes).toBeGreaterThan(0);
            expect(run.address + run.count * run.sizeBytes).toBeLessThanOrEqual(2 ** 32);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('that was written from numbers is read as these numbers', () => {
    const run = fc.record({ count: fc.integer({ min: 1, max: 99 }), size: fc.integer({ min: 1, max: 999 }) });
    fc.assert(
      fc.property(fc.nat(0x7fffffff), fc.array(run, { minLength: 1, maxLength: 8 }), (address, runs) => {
        const text = runs.map(({ count, size }) => `${count}*${String(size).padStart(3, '0')}Kg`).join(',');
        const { sectors = [] } = parseMemoryMap(`@x /0x${address.toString(16)}/${text}`) ?? {};
        expect(sectors.map(({ count, sizeBytes }) => ({ count, size: sizeBytes / 1024 }))).toEqual(runs);
        expect(sectors[0]?.address).toBe(address);
      }),
      { numRuns: 50 },
    );
  });

  test('tells the run that holds an address, from its first byte to its last', () => {
    const map = parseMemoryMap(PHOTON)!;
    expect(runAt(map, 0x0800bfff)?.address).toBe(0x08000000);
    expect(runAt(map, 0x0800c000)?.address).toBe(0x0800c000);
    expect(runAt(map, 0x080fffff)?.address).toBe(0x08020000);
    expect([runAt(map, 0x07ffffff), runAt(map, 0x08100000)]).toEqual([undefined, undefined]);
  });
});
