import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeModule, SYSTEM_PART_1, SYSTEM_PART_2, type ModuleFacts } from '#src/sim/photon-modules.ts';

/** System parts and a user part as files of a release; the system parts fill a sector and a bit. */
export function partFacts(version: number): Record<'part1' | 'part2' | 'user', ModuleFacts> {
  const platform = 'photon';
  return {
    part1: { start: SYSTEM_PART_1, sizeBytes: 140_000, platform, fn: 4, index: 1, version },
    part2: {
      start: SYSTEM_PART_2,
      sizeBytes: 150_002, // no whole number of words
      platform,
      fn: 4,
      index: 2,
      version,
      dependencies: [[4, 1, version]],
    },
    user: {
      start: 0x080a_0000,
      sizeBytes: 20_000,
      platform,
      fn: 5,
      index: 1,
      version: 5,
      dependencies: [[4, 2, version]],
    },
  };
}

/** Writes them to `folder`. @returns their bytes, and their paths */
export function writeParts(folder: string, version = 300) {
  const facts = partFacts(version);
  const one = (name: keyof typeof facts) => {
    const bytes = makeModule(facts[name]);
    const file = join(folder, `${name}-${version}.bin`);
    writeFileSync(file, bytes);
    return { bytes, file, address: facts[name].start };
  };
  return { part1: one('part1'), part2: one('part2'), user: one('user') };
}
