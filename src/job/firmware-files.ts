import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { sha256Hex } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { systemCode } from '../core/system-code.ts';
import type { Platform } from '../photon/identity.ts';
import {
  moduleBytes,
  parseModuleHeader,
  platformOfId,
  SHA_OFFSET_FROM_END,
  SLOT_NAMES,
  slotNamed,
  SUFFIX_BYTES,
  CRC_BYTES,
  unmetDependency,
  whyNotInSlot,
} from '../photon/modules.ts';
import type { ModuleHeader, SlotName } from '../photon/modules.ts';
import { hasRightCrc } from './modules-on-device.ts';

/** A module that is to be on the device: read, and checked as far as a file can be. */
export interface WantedModule {
  readonly slot: SlotName;
  readonly file: string;
  /** The whole module with its CRC, as it will lie in flash. */
  readonly bytes: Uint8Array;
  readonly header: ModuleHeader;
  readonly platform: Platform;
  /** Of `bytes`. */
  readonly sha256: string;
}

/** Options of the step `firmware`: files, from the job file's folder; `config`: the file that the configuration names. */
export type FirmwareOptions = { readonly [S in SlotName]?: string | undefined };

/** As configured: `firmware.systemPart1` and the others; absolute paths. */
export type FirmwareSettings = { readonly [S in SlotName]: string | null };

export const NO_FIRMWARE: FirmwareSettings = { 'system-part1': null, 'system-part2': null, 'user-part': null };

const CONFIG_NAMES: Readonly<Record<SlotName, string>> = {
  'system-part1': 'firmware.systemPart1',
  'system-part2': 'firmware.systemPart2',
  'user-part': 'firmware.userPart',
};

/**
 * Reads and checks every file that a job flashes, in the order in which they are written. What they need of parts that
 * are not given is checked on each device.
 * @throws Fault FIRMWARE_INVALID, CONFIG_INVALID
 */
export function firmwareOf(options: FirmwareOptions, jobFile: string, configured: FirmwareSettings): WantedModule[] {
  const files = SLOT_NAMES.flatMap(slot => {
    const named = options[slot];
    return named === undefined ? [] : [[slot, fileOf(slot, named, jobFile, configured)] as const];
  });
  return modulesIn(new Map(files));
}

/**
 * Reads and checks modules that are to be on one device together.
 * @param files absolute paths
 * @throws Fault FIRMWARE_INVALID
 */
export function modulesIn(files: ReadonlyMap<SlotName, string>): WantedModule[] {
  const modules = SLOT_NAMES.flatMap(slot => {
    const file = files.get(slot);
    return file === undefined ? [] : [readModule(slot, file)];
  });
  const [first] = modules;
  const stranger = modules.find(({ platform }) => platform !== first?.platform);
  if (first && stranger) {
    throw invalid(
      stranger.file,
      `is for a ${nameOf(stranger.platform)}, and ${first.file} for a ${nameOf(first.platform)}`,
    );
  }
  const standing = modules.map(({ slot, header }) => ({ slot, ...header }));
  const unmet = unmetDependency(standing, slot => files.has(slot));
  if (unmet !== null) {
    const file = modules.find(({ slot }) => unmet.startsWith(`${slot} `))?.file ?? first?.file ?? '';
    throw new Fault('FIRMWARE_INVALID', `${file}: ${unmet}`, { hint: 'give parts of one and the same release' });
  }
  return modules;
}

function fileOf(slot: SlotName, named: string, jobFile: string, configured: FirmwareSettings): string {
  if (named !== 'config') return resolve(dirname(jobFile), named);
  const file = configured[slot];
  if (file !== null) return file;
  const key = CONFIG_NAMES[slot];
  throw new Fault('CONFIG_INVALID', `the job flashes the configured ${slot}, and none is configured`, {
    hint: `set \`${key}\` in the configuration to the file of that module`,
  });
}

function readModule(slot: SlotName, file: string): WantedModule {
  const bytes = readFile(slot, file);
  const header = parseModuleHeader(bytes);
  if (!header) throw invalid(file, `has ${bytes.length} bytes, fewer than a module's header`);
  const why = whyNotInSlot(header, slotNamed(slot));
  if (why !== null) throw invalid(file, why);
  const platform = platformOfId(header.platformId);
  if (platform === null) throw invalid(file, `is for platform ${header.platformId}`);
  if (header.flags !== 0) {
    throw invalid(file, `has the flags 0x${header.flags.toString(16)}: it is packed, and not as it lies in flash`);
  }
  if (bytes.length !== moduleBytes(header)) {
    throw invalid(file, `has ${bytes.length} bytes, and its header says ${moduleBytes(header)}`);
  }
  if (!hasRightCrc(bytes)) throw invalid(file, 'has another CRC-32 than its bytes: it is damaged');
  checkSuffix(bytes, file);
  return { slot, file, bytes, header, platform, sha256: sha256Hex(bytes) };
}

function readFile(slot: SlotName, file: string): Buffer {
  const most = slotNamed(slot).sizeBytes;
  try {
    const stat = statSync(file);
    if (!stat.isFile()) throw invalid(file, 'is no file');
    if (stat.size > most) throw invalid(file, `has ${stat.size} bytes, and ${slot} has room for ${most}`);
    return readFileSync(file);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault('FIRMWARE_INVALID', `${printable(file, 4096)}: it can't be read (${systemCode(cause)})`, {
      hint: 'check the path and the permissions of the file; a relative one counts from the folder of the file that names it',
      cause,
    });
  }
}

/** The suffix: its length at its end, and before that SHA-256 over all that stands before. */
function checkSuffix(bytes: Buffer, file: string): void {
  const end = bytes.length - CRC_BYTES;
  const length = bytes.readUInt16LE(end - 2);
  if (length !== SUFFIX_BYTES)
    throw invalid(file, `says that its suffix has ${length} bytes instead of ${SUFFIX_BYTES}`);
  const at = end - SHA_OFFSET_FROM_END;
  if (bytes.toString('hex', at, at + 32) !== sha256Hex(bytes.subarray(0, at))) {
    throw invalid(file, 'has another SHA-256 in its suffix than its bytes: it is damaged, or was changed');
  }
}

function invalid(file: string, what: string): Fault {
  return new Fault('FIRMWARE_INVALID', `${printable(file, 4096)}: it ${what}`);
}

export function nameOf(platform: Platform): string {
  return platform === 'p1' ? 'P1' : 'Photon';
}
