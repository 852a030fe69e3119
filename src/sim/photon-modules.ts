import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { PLATFORMS, type Platform } from './photon-descriptors.ts';
import type { Flash } from './photon-flash.ts';

/** Where the two system parts stand. */
export const SYSTEM_PART_1 = 0x08020000;
export const SYSTEM_PART_2 = 0x08060000;
const PART_MAX_BYTES = 256 * 1024;
const HEADER_BYTES = 24;
const SUFFIX_BYTES = 40;

export interface ModuleFacts {
  readonly start: number;
  /** Without the CRC that follows it. */
  readonly sizeBytes: number;
  readonly platform: Platform;
  /** 4 system part, 5 user part. */
  readonly fn: number;
  readonly index: number;
  readonly version: number;
  /** At most two: function, index, version. */
  readonly dependencies?: readonly (readonly [fn: number, index: number, version: number])[];
}

/** A firmware module as it lies in flash: header, filler, suffix with SHA-256, CRC-32 (big endian). */
export function makeModule(facts: ModuleFacts): Buffer {
  const { start, sizeBytes } = facts;
  const bytes = Buffer.alloc(sizeBytes + 4);
  for (let at = 0; at < sizeBytes; at += 1) bytes[at] = (at * 31 + facts.index * 7 + (at >> 8)) & 0xff;
  bytes.writeUInt32LE(start, 0);
  bytes.writeUInt32LE(start + sizeBytes, 4);
  bytes.writeUInt16LE(0, 8);
  bytes.writeUInt16LE(facts.version, 10);
  bytes.writeUInt16LE(PLATFORMS[facts.platform].id, 12);
  bytes.set([facts.fn, facts.index], 14);
  bytes.fill(0, 16, HEADER_BYTES);
  for (const [nth, [fn, index, version]] of (facts.dependencies ?? []).entries()) {
    bytes.set([fn, index], 16 + nth * 4);
    bytes.writeUInt16LE(version, 18 + nth * 4);
  }
  const suffix = sizeBytes - SUFFIX_BYTES;
  bytes.fill(0xff, suffix, sizeBytes);
  bytes.set(
    createHash('sha256')
      .update(bytes.subarray(0, suffix + 6))
      .digest(),
    suffix + 6,
  );
  bytes.writeUInt16LE(SUFFIX_BYTES, sizeBytes - 2);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, sizeBytes)), sizeBytes);
  return bytes;
}

/** Whether a module with a right header and CRC lies at `start`. */
function isWhole(flash: Flash, start: number, platform: Platform): boolean {
  const header = flash.read(start, HEADER_BYTES);
  const sizeBytes = header.readUInt32LE(4) - start;
  if (header.readUInt32LE(0) !== start || sizeBytes < HEADER_BYTES + SUFFIX_BYTES || sizeBytes > PART_MAX_BYTES - 4) {
    return false;
  }
  if (header.readUInt16LE(12) !== PLATFORMS[platform].id || header[14] !== 4) return false;
  const content = flash.read(start, sizeBytes + 4);
  return crc32(content.subarray(0, sizeBytes)) === content.readUInt32BE(sizeBytes);
}

/** Bootloaders of 0.7 and newer reach the DCT through both parts, so both must be whole. */
export function systemPartsWhole(flash: Flash, platform: Platform): boolean {
  return isWhole(flash, SYSTEM_PART_1, platform) && isWhole(flash, SYSTEM_PART_2, platform);
}

function sectorWith(module: Buffer, sizeBytes: number): Uint8Array {
  const sector = new Uint8Array(sizeBytes).fill(0xff);
  sector.set(module);
  return sector;
}

/** The module version in the header of what lies at system-part1, whole or not; 0xffff where that is erased. */
export function systemVersionOf(flash: Flash): number {
  return flash.read(SYSTEM_PART_1 + 10, 2).readUInt16LE(0);
}

/** Of the system parts that devices leave the factory with: Device OS 0.7.0 (device-os: system/system-versions.md). */
export const FACTORY_SYSTEM_VERSION = 207;

const images = new Map<string, ReadonlyMap<number, Uint8Array>>();

/**
 * What every device of a platform leaves the factory with, by sector address. One copy is shared by all.
 * @param version module version of the system parts
 */
export function factoryImage(platform: Platform, version = FACTORY_SYSTEM_VERSION): ReadonlyMap<number, Uint8Array> {
  const name = `${platform} ${version}`;
  const known = images.get(name);
  if (known) return known;
  const part = (start: number, index: number) =>
    sectorWith(makeModule({ start, sizeBytes: 12_288, platform, fn: 4, index, version }), 128 * 1024);
  const image = new Map([
    [0x08000000, new Uint8Array(16 * 1024).map((_, at) => (at * 17 + (at >> 7)) & 0xff)],
    [SYSTEM_PART_1, part(SYSTEM_PART_1, 1)],
    [SYSTEM_PART_2, part(SYSTEM_PART_2, 2)],
  ]);
  images.set(name, image);
  return image;
}

/** The second system part as a bad flash leaves it: its CRC no longer fits. */
export function brokenSystemPart(platform: Platform, version?: number): Uint8Array {
  const part = Uint8Array.from(factoryImage(platform, version).get(SYSTEM_PART_2) ?? []);
  part.fill(0x00, 4096, 8192);
  return part;
}
