/** One sector of a flash: the smallest piece that can be erased. Sizes and addresses in bytes. */
export interface Sector {
  readonly address: number;
  readonly size: number;
}

/** Called with a sector's new content before it counts as written: a rack with a state folder keeps it on disk. */
export type KeepSector = (sector: Sector, content: Uint8Array) => Promise<void>;

const KB = 1024;

/** STM32F205: 4 × 16 KB, 64 KB, 7 × 128 KB from 0x08000000. */
export const INTERNAL_SECTORS: readonly Sector[] = layOut(0x08000000, [
  ...Array<number>(4).fill(16 * KB),
  64 * KB,
  ...Array<number>(7).fill(128 * KB),
]);

/** The P1's external flash: 1 MB in sectors of 4 KB. */
export const SERIAL_SECTORS: readonly Sector[] = layOut(0, Array<number>(256).fill(4 * KB));

function layOut(base: number, sizes: readonly number[]): Sector[] {
  let address = base;
  return sizes.map(size => {
    const sector = { address, size };
    address += size;
    return sector;
  });
}

/**
 * NOR flash, held sector by sector; a sector never written shows the factory's bytes (shared by all devices, never
 * changed in place), or 0xFF. A write becomes visible when `keep` has resolved, as a whole sector.
 */
export class Flash {
  readonly start: number;
  readonly end: number;
  readonly #sectors: readonly Sector[];
  readonly #content: Map<number, Uint8Array>;
  readonly #keep: KeepSector | undefined;
  /** Grows with every change of the content. */
  changes = 0;

  constructor(sectors: readonly Sector[], content: ReadonlyMap<number, Uint8Array>, keep?: KeepSector) {
    const last = sectors[sectors.length - 1];
    this.#sectors = sectors;
    this.start = sectors[0]?.address ?? 0;
    this.end = last ? last.address + last.size : 0;
    this.#content = new Map(content);
    this.#keep = keep;
  }

  contains(address: number): boolean {
    return address >= this.start && address < this.end;
  }

  sectorAt(address: number): Sector | undefined {
    return this.#sectors.find(({ address: from, size }) => address >= from && address < from + size);
  }

  /** @returns a copy; what lies outside the flash reads as 0 */
  read(address: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (const sector of this.#sectors) {
      const from = Math.max(address, sector.address);
      const to = Math.min(address + length, sector.address + sector.size);
      if (from >= to) continue;
      const content = this.#content.get(sector.address);
      if (content) bytes.set(content.subarray(from - sector.address, to - sector.address), from - address);
      else bytes.fill(0xff, from - address, to - address);
    }
    return bytes;
  }

  async replace(sector: Sector, content: Uint8Array): Promise<void> {
    await this.#keep?.(sector, content);
    this.#content.set(sector.address, content);
    this.changes += 1;
  }

  async erase(address: number): Promise<void> {
    const sector = this.sectorAt(address);
    if (sector) await this.replace(sector, new Uint8Array(sector.size).fill(0xff));
  }

  /**
   * Programs as NOR flash does: bits can only fall.
   * @returns whether it now holds `data`, which is what the bootloader itself verifies after such a write
   */
  async program(address: number, data: Uint8Array): Promise<boolean> {
    let whole = true;
    for (const sector of this.#sectors) {
      const from = Math.max(address, sector.address);
      const to = Math.min(address + data.length, sector.address + sector.size);
      if (from >= to) continue;
      const content = new Uint8Array(this.read(sector.address, sector.size));
      for (let at = from; at < to; at += 1) {
        const wanted = data[at - address] ?? 0xff;
        const now = (content[at - sector.address] ?? 0xff) & wanted;
        content[at - sector.address] = now;
        if (now !== wanted) whole = false;
      }
      await this.replace(sector, content);
    }
    return whole;
  }
}
