/** A run of equal sectors of a DfuSe memory map. */
export interface SectorRun {
  /** First byte of the run. */
  readonly address: number;
  readonly count: number;
  /** Bytes in one sector. */
  readonly sizeBytes: number;
  readonly readable: boolean;
  readonly erasable: boolean;
  readonly writable: boolean;
}

export interface MemoryMap {
  /** The target's name: `Internal Flash`, `DCT Flash`. */
  readonly name: string;
  readonly sectors: readonly SectorRun[];
}

const UNIT_BYTES: Readonly<Record<string, number>> = { '': 1, ' ': 1, B: 1, K: 1024, M: 1024 * 1024 };
const MAX_RUNS = 64;

/**
 * Reads the name of a DfuSe alternate setting (ST UM0424, section 4.3.2):
 * `@Name /ADDRESS/COUNT*SIZE[UNIT]TYPE,…[/ADDRESS/…]`. TYPE is `a` to `g`, whose bits are readable (1), erasable (2)
 * and writable (4); UNIT is B, K, M, a blank or nothing (bytes).
 * @returns the map, or null where the text is not one.
 */
export function parseMemoryMap(text: string): MemoryMap | null {
  if (!text.startsWith('@')) return null;
  const [name, ...parts] = text.slice(1).split('/');
  if (name === undefined || parts.length === 0 || parts.length % 2 !== 0) return null;
  const sectors: SectorRun[] = [];
  for (let i = 0; i < parts.length; i += 2) {
    const start = /^\s*0x([0-9a-f]{1,8})\s*$/i.exec(parts[i] ?? '');
    if (!start?.[1]) return null;
    let address = Number.parseInt(start[1], 16);
    for (const segment of (parts[i + 1] ?? '').split(',')) {
      const run = parseRun(segment, address);
      if (!run || sectors.length >= MAX_RUNS) return null;
      sectors.push(run);
      address += run.count * run.sizeBytes;
      if (address > 0x1_0000_0000) return null;
    }
  }
  return { name: name.trim(), sectors };
}

function parseRun(segment: string, address: number): SectorRun | null {
  const match = /^\s*(\d{1,4})\*(\d{1,4})([BKM ]?)([a-g])\s*$/.exec(segment);
  if (!match) return null;
  const [, count = '', size = '', unit = '', type = 'a'] = match;
  const sizeBytes = Number(size) * (UNIT_BYTES[unit] ?? 1);
  const bits = type.charCodeAt(0) - 'a'.charCodeAt(0) + 1;
  if (Number(count) === 0 || sizeBytes === 0) return null;
  return {
    address,
    count: Number(count),
    sizeBytes,
    readable: (bits & 1) !== 0,
    erasable: (bits & 2) !== 0,
    writable: (bits & 4) !== 0,
  };
}

/** The run that holds `address`, if any. */
export function runAt(map: MemoryMap, address: number): SectorRun | undefined {
  return map.sectors.find(run => address >= run.address && address < run.address + run.count * run.sizeBytes);
}
