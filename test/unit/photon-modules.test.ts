import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  moduleBytes,
  parseModuleHeader,
  slotNamed,
  SLOTS,
  unmetDependency,
  whyNotInSlot,
} from '#src/photon/modules.ts';
import { hasRightCrc } from '#src/job/modules-on-device.ts';
import { makeModule } from '#src/sim/photon-modules.ts';
import { partFacts } from '../support/firmware-files.ts';

describe('the header of a module', () => {
  test('says what the module was made with, and fits its slot alone', () => {
    const facts = partFacts(207);
    for (const [name, slot] of [
      ['part1', 'system-part1'],
      ['part2', 'system-part2'],
      ['user', 'user-part'],
    ] as const) {
      const { start, sizeBytes, fn, index, version, dependencies = [] } = facts[name];
      const module = makeModule(facts[name]);
      const header = parseModuleHeader(module)!;
      expect(header).toEqual({
        start,
        end: start + sizeBytes,
        flags: 0,
        version,
        platformId: 6,
        fn,
        index,
        dependencies: dependencies.map(([of, nth, least]) => ({ fn: of, index: nth, version: least })),
      });
      expect(moduleBytes(header)).toBe(module.length);
      expect(hasRightCrc(module)).toBe(true);
      expect(SLOTS.filter(one => whyNotInSlot(header, one) === null).map(one => one.name)).toEqual([slot]);
    }
  });

  test('of any 24 bytes is read without a word, and nothing that leaves its slot is taken for a module', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 30 }), fc.constantFrom(...SLOTS), (bytes, slot) => {
        const header = parseModuleHeader(bytes);
        expect(header === null).toBe(bytes.length < 24);
        if (!header || whyNotInSlot(header, slot) !== null) return;
        expect(moduleBytes(header)).toBeLessThanOrEqual(slot.sizeBytes);
        expect(header.start).toBe(slot.address);
      }),
    );
    expect(hasRightCrc(new Uint8Array(3))).toBe(false);
  });

  test('that lies about its length, address or platform fits no slot', () => {
    const slot = slotNamed('system-part1');
    const good = parseModuleHeader(makeModule(partFacts(1).part1))!;
    for (const wrong of [
      { end: slot.address },
      { end: slot.address + 63 },
      { end: slot.address + 256 * 1024 - 3 },
      { end: 0xffff_ffff },
      { start: slot.address + 4 },
      { platformId: 10 },
      { fn: 2 },
      { index: 2 },
    ]) {
      expect(whyNotInSlot({ ...good, ...wrong }, slot), JSON.stringify(wrong)).not.toBeNull();
    }
    expect(whyNotInSlot({ ...good, end: slot.address + 256 * 1024 - 4 }, slot)).toBeNull();
  });
});

describe('dependencies', () => {
  const part1 = { slot: 'system-part1', version: 207, dependencies: [{ fn: 2, index: 0, version: 99 }] } as const;
  const part2 = (least: number) =>
    ({ slot: 'system-part2', version: 207, dependencies: [{ fn: 4, index: 1, version: least }] }) as const;

  test('are met by the same version or a newer one; a bootloader comes with the system', () => {
    expect(unmetDependency([part1, part2(207)])).toBeNull();
    expect(unmetDependency([part1, part2(100)])).toBeNull();
  });

  test('that are not met are told', () => {
    expect(unmetDependency([part1, part2(208)])).toBe(
      'system-part2 version 207 needs system-part1 of version 208 or newer, and there is version 207',
    );
    expect(unmetDependency([part2(207)])).toContain('and there is none');
    expect(unmetDependency([part2(207)], slot => slot === 'system-part2')).toBeNull();
    const third = { slot: 'user-part', version: 1, dependencies: [{ fn: 4, index: 3, version: 1 }] } as const;
    expect(unmetDependency([third])).toContain('which a Photon has no place for');
  });
});
