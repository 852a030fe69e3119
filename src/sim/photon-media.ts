import type { DctStore } from './photon-dct.ts';
import type { Flash } from './photon-flash.ts';
import { SYSTEM_PART_1, SYSTEM_PART_2 } from './photon-modules.ts';

/** `hung`: the processor sits in an endless fault, and only a replug helps. */
export type MediaResult = 'done' | 'failed' | 'hung';

/** One alternate setting: the memory behind it, as the bootloader's media layer treats it. */
export interface Media {
  /** bwPollTimeout in ms for a busy GETSTATUS; null where the pointer is not in this memory: nothing is set then. */
  pollMs(pointer: number, erase: boolean): number | null;
  erase(address: number): Promise<MediaResult>;
  write(address: number, data: Uint8Array): Promise<MediaResult>;
  read(address: number, length: number): Uint8Array | 'hung';
}

/** Bootloader and both DCT copies: never written over alternate setting 0. */
const PROTECTED_END = 0x08020000;

/**
 * Since power-on: whether system-part2 was erased with nothing written there yet, so that touching the DCT hangs; and whether
 * a system part was changed at all, so that touching it crashes bootloaders before 1.3.1.
 */
export interface PartWatch {
  part2Erased: boolean;
  changed: boolean;
}

function isSystemPart(address: number): boolean {
  return address >= SYSTEM_PART_1 && address < SYSTEM_PART_2 + 256 * 1024;
}

/** Alternate setting 0, and 2 of a P1. */
export function flashMedia(flash: Flash, protectedEnd: number, watch?: PartWatch): Media {
  return {
    pollMs: pointer => (flash.contains(pointer) ? 0 : null),
    async erase(address) {
      if (!flash.contains(address) || address < protectedEnd) return 'failed';
      await flash.erase(address);
      if (watch && flash.sectorAt(address)?.address === SYSTEM_PART_2) watch.part2Erased = true;
      if (watch && isSystemPart(address)) watch.changed = true;
      return 'done';
    },
    async write(address, data) {
      if (!flash.contains(address) || address < protectedEnd || address % 4 !== 0) return 'failed';
      if (address + data.length > flash.end) return 'hung';
      const verified = await flash.program(address, data);
      if (watch && flash.sectorAt(address)?.address === SYSTEM_PART_2) watch.part2Erased = false;
      return verified ? 'done' : 'failed';
    },
    read(address, length) {
      if (!flash.contains(address)) return new Uint8Array(length);
      return address + length > flash.end ? 'hung' : flash.read(address, length);
    },
  };
}

export function internalMedia(flash: Flash, watch: PartWatch): Media {
  return flashMedia(flash, PROTECTED_END, watch);
}

export interface DctConditions {
  /** False: the bootloader can't reach the DCT through the system firmware. */
  readonly reachable: boolean;
  readonly watch: PartWatch;
  /** Called when a write has destroyed the DCT. */
  onDestroyed(offset: number, length: number): void;
  /** Called when it is touched though a system part was changed since the device has started. */
  onEarly(): void;
}

const DCT_ERASE_POLL_MS = 500;
const DCT_WRITE_POLL_MS = 1;
const DCT_SPACE = 0x4000;

/** Alternate setting 1. */
export function dctMedia(dct: DctStore, conditions: DctConditions): Media {
  const inside = (address: number) => address >= 0 && address < DCT_SPACE;
  return {
    pollMs(pointer, erase) {
      if (!inside(pointer)) return null;
      return erase ? DCT_ERASE_POLL_MS : DCT_WRITE_POLL_MS;
    },
    // Does nothing and says so with success; the host has waited for it all the same.
    erase: address => Promise.resolve(inside(address) ? 'done' : 'failed'),
    async write(address, data) {
      if (conditions.watch.changed) conditions.onEarly();
      if (conditions.watch.part2Erased) return 'hung';
      if (!inside(address) || !conditions.reachable) return 'failed';
      const result = await dct.write(address, data);
      if (result === 'destroyed') conditions.onDestroyed(address, data.length);
      return result === 'failed' ? 'failed' : 'done';
    },
    read(address, length) {
      if (conditions.watch.changed) conditions.onEarly();
      if (conditions.watch.part2Erased) return 'hung';
      return inside(address) && conditions.reachable ? dct.read(address, length) : new Uint8Array(length);
    },
  };
}
