import { hexAddress } from '../core/bytes.ts';
import type { Platform } from './identity.ts';

/*
 * Firmware modules of a Photon or P1 (device-os: module_info.h). A module begins with 24 bytes, little endian:
 *
 *   0 start u32 · 4 end u32, exclusive: the CRC-32 stands there, big endian, over start..end · 8 reserved u8 · 9 flags u8
 *   10 version u16 · 12 platform u16 · 14 function u8 · 15 index u8 · 16 and 20 a dependency each: function u8, index u8,
 *   version u16
 *
 * and ends with a suffix of 40 bytes, in which SHA-256 covers all that stands before it, and its own length (u16).
 */

export const SLOT_NAMES = ['system-part1', 'system-part2', 'user-part'] as const;
export type SlotName = (typeof SLOT_NAMES)[number];

/** Where a module lies in the internal flash; `index` null: any. Sizes in bytes. */
export interface Slot {
  readonly name: SlotName;
  readonly address: number;
  readonly sizeBytes: number;
  readonly fn: number;
  readonly index: number | null;
}

/** 2 bootloader, 4 system part, 5 user part. */
export const MODULE_FUNCTION = { NONE: 0, BOOTLOADER: 2, SYSTEM: 4, USER: 5 } as const;

const KB = 1024;

/** In the order in which they are written. */
export const SLOTS: readonly Slot[] = [
  { name: 'system-part1', address: 0x0802_0000, sizeBytes: 256 * KB, fn: MODULE_FUNCTION.SYSTEM, index: 1 },
  { name: 'system-part2', address: 0x0806_0000, sizeBytes: 256 * KB, fn: MODULE_FUNCTION.SYSTEM, index: 2 },
  { name: 'user-part', address: 0x080a_0000, sizeBytes: 128 * KB, fn: MODULE_FUNCTION.USER, index: null },
];

/** The flash can be erased in pieces of this size there. */
export const SECTOR_BYTES = 128 * KB;
export const HEADER_BYTES = 24;
export const SUFFIX_BYTES = 40;
export const CRC_BYTES = 4;
/** SHA-256 within the suffix, counted from the module's end. */
export const SHA_OFFSET_FROM_END = 34;

/** As the header numbers them. */
export const PLATFORM_IDS: Readonly<Record<Platform, number>> = { photon: 6, p1: 8 };

export interface Dependency {
  readonly fn: number;
  readonly index: number;
  readonly version: number;
}

/** What the 24 bytes say; nothing of it is checked yet. */
export interface ModuleHeader {
  readonly start: number;
  readonly end: number;
  readonly flags: number;
  readonly version: number;
  readonly platformId: number;
  readonly fn: number;
  readonly index: number;
  /** Those that it has: function 0 means none. */
  readonly dependencies: readonly Dependency[];
}

/** Reads a header; null where there are less than 24 bytes. */
export function parseModuleHeader(bytes: Uint8Array): ModuleHeader | null {
  if (bytes.length < HEADER_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const dependencyAt = (at: number): Dependency => ({
    fn: view.getUint8(at),
    index: view.getUint8(at + 1),
    version: view.getUint16(at + 2, true),
  });
  return {
    start: view.getUint32(0, true),
    end: view.getUint32(4, true),
    flags: view.getUint8(9),
    version: view.getUint16(10, true),
    platformId: view.getUint16(12, true),
    fn: view.getUint8(14),
    index: view.getUint8(15),
    dependencies: [dependencyAt(16), dependencyAt(20)].filter(({ fn }) => fn !== MODULE_FUNCTION.NONE),
  };
}

/** Length of the whole module with its CRC, in bytes. */
export function moduleBytes({ start, end }: ModuleHeader): number {
  return end - start + CRC_BYTES;
}

export function platformOfId(id: number): Platform | null {
  return id === PLATFORM_IDS.photon ? 'photon' : id === PLATFORM_IDS.p1 ? 'p1' : null;
}

export function slotNamed(name: SlotName): Slot {
  const slot = SLOTS.find(candidate => candidate.name === name);
  if (!slot) throw new RangeError(`there is no slot ${name}`);
  return slot;
}

/** The slot of a module that another one names as its dependency; null where a Photon has none such. */
export function slotOfDependency({ fn, index }: Dependency): Slot | null {
  return SLOTS.find(slot => slot.fn === fn && (slot.index === null || slot.index === index)) ?? null;
}

/** Why a module with this header can't lie in that slot, in words that follow "it"; null where it can. */
export function whyNotInSlot(header: ModuleHeader, slot: Slot): string | null {
  const { start, end, platformId, fn, index } = header;
  if (fn === MODULE_FUNCTION.BOOTLOADER) return 'is a bootloader, which can not be written over DFU';
  if (fn !== slot.fn || (slot.index !== null && index !== slot.index)) {
    return `is ${nameOfModule({ fn, index })} and not ${slot.name}`;
  }
  if (start !== slot.address) return `begins at ${hexAddress(start)} and not at ${hexAddress(slot.address)}`;
  const sizeBytes = end - start;
  if (sizeBytes < HEADER_BYTES + SUFFIX_BYTES)
    return `ends at ${hexAddress(end)}, before its own header and suffix are through`;
  if (sizeBytes + CRC_BYTES > slot.sizeBytes) {
    return `has ${sizeBytes + CRC_BYTES} bytes, and ${slot.name} has room for ${slot.sizeBytes}`;
  }
  if (platformOfId(platformId) === null)
    return `is for platform ${platformId}, and neither for a Photon (6) nor a P1 (8)`;
  return null;
}

/** `system part 2`, `user part`, `a module of function 9`. */
export function nameOfModule({ fn, index }: { readonly fn: number; readonly index: number }): string {
  if (fn === MODULE_FUNCTION.SYSTEM) return `system part ${index}`;
  if (fn === MODULE_FUNCTION.USER) return 'a user part';
  return `a module of function ${fn}`;
}

/** What stands in a slot, as far as others depend on it; version null: nothing that can be depended on. */
export interface Standing {
  readonly slot: SlotName;
  readonly version: number | null;
  readonly dependencies: readonly Dependency[];
}

/**
 * The first dependency that is not met among modules that stand together, in words; null where all are. A bootloader is
 * not looked at: system parts bring theirs, and the firmware puts it in place when it starts.
 * @param known only slots for which it says true are judged
 */
export function unmetDependency(
  modules: readonly Standing[],
  known: (slot: SlotName) => boolean = () => true,
): string | null {
  for (const { slot, version, dependencies } of modules) {
    if (version === null) continue;
    for (const dependency of dependencies) {
      if (dependency.fn === MODULE_FUNCTION.BOOTLOADER) continue;
      const needed = slotOfDependency(dependency);
      const what = `${slot} version ${version} needs`;
      if (!needed) return `${what} ${nameOfModule(dependency)}, which a Photon has no place for`;
      if (!known(needed.name)) continue;
      const there = modules.find(candidate => candidate.slot === needed.name)?.version ?? null;
      if (there !== null && there >= dependency.version) continue;
      const found = there === null ? 'there is none' : `there is version ${there}`;
      return `${what} ${needed.name} of version ${dependency.version} or newer, and ${found}`;
    }
  }
  return null;
}
