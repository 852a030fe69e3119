import { crc32 } from 'node:zlib';
import { allBytesAre, sha256Hex } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import type { ModuleState } from '../core/firmware-record.ts';
import type { DfuDevice } from '../dfu/dfu-device.ts';
import { parseMemoryMap, runAt } from '../dfu/memory-map.ts';
import { ALTERNATE } from '../photon/dct.ts';
import type { Platform } from '../photon/identity.ts';
import {
  CRC_BYTES,
  HEADER_BYTES,
  moduleBytes,
  parseModuleHeader,
  platformOfId,
  SECTOR_BYTES,
  SLOTS,
  whyNotInSlot,
} from '../photon/modules.ts';
import type { Dependency, Slot, SlotName } from '../photon/modules.ts';
import { alternateNamed } from './alternates.ts';

/**
 * What lies in a slot. `empty`: all 24 bytes of the header are 0xFF; `wrong-header`: it is none that fits the slot, and
 * nothing that it says is repeated here; `wrong-crc`: the header fits, and the bytes behind it are others.
 */
export interface ModuleThere {
  readonly slot: SlotName;
  readonly state: ModuleState;
  readonly version: number | null;
  readonly platform: Platform | null;
  readonly function: number | null;
  readonly index: number | null;
  readonly dependencies: readonly Dependency[];
  /** Of the module with its CRC, as it lies there. */
  readonly sha256: string | null;
}

/** Reads and checks all three slots of a device in dfuIDLE; nothing is written. @throws Fault READ_FAILED, USB_* */
export async function readModules(device: DfuDevice): Promise<ModuleThere[]> {
  const alternate = alternateNamed(device, ALTERNATE.FLASH);
  const modules: ModuleThere[] = [];
  for (const slot of SLOTS) modules.push(await readSlot(device, alternate, slot));
  return modules;
}

async function readSlot(device: DfuDevice, alternate: number, slot: Slot): Promise<ModuleThere> {
  const head = await device.read(alternate, slot.address, HEADER_BYTES);
  const nothing = { version: null, platform: null, function: null, index: null, dependencies: [], sha256: null };
  if (allBytesAre(head, 0xff)) return { slot: slot.name, state: 'empty', ...nothing };
  const header = parseModuleHeader(head);
  if (!header || whyNotInSlot(header, slot) !== null) return { slot: slot.name, state: 'wrong-header', ...nothing };
  const bytes = await device.read(alternate, slot.address, moduleBytes(header));
  return {
    slot: slot.name,
    state: hasRightCrc(bytes) ? 'whole' : 'wrong-crc',
    version: header.version,
    platform: platformOfId(header.platformId),
    function: header.fn,
    index: header.index,
    dependencies: header.dependencies,
    sha256: sha256Hex(bytes),
  };
}

/** It may have been erased a moment ago, and then asking for the DCT hangs the bootloader. */
export function isPart2Empty(there: readonly Pick<ModuleThere, 'slot' | 'state'>[]): boolean {
  return there.some(({ slot, state }) => slot === 'system-part2' && state === 'empty');
}

/** Whether the last four bytes are the CRC-32 of all that stands before them, big endian. */
export function hasRightCrc(module: Uint8Array): boolean {
  const end = module.length - CRC_BYTES;
  if (end < 0) return false;
  const stored = new DataView(module.buffer, module.byteOffset + end, CRC_BYTES).getUint32(0);
  return crc32(module.subarray(0, end)) === stored;
}

/** Why a device is asked for nothing more once its system parts were written. */
export const PARTS_ARE_NEW = 'the system parts are new: the device has to start anew before its DCT can be touched';

/**
 * The alternate setting with the internal flash, of a device whose slots lie in sectors that can be erased and written.
 * @throws Fault DEVICE_UNEXPECTED
 */
export function flashAlternate(device: DfuDevice): number {
  const number = alternateNamed(device, ALTERNATE.FLASH);
  const map = parseMemoryMap(device.descriptors.alternates.find(one => one.number === number)?.name ?? '');
  for (const slot of SLOTS) {
    const run = map && runAt(map, slot.address);
    const isAsKnown = run?.sizeBytes === SECTOR_BYTES && run.erasable && run.writable;
    if (isAsKnown && (slot.address - run.address) % SECTOR_BYTES === 0) continue;
    throw new Fault('DEVICE_UNEXPECTED', `its memory map has no sectors of 128 KB for ${slot.name}`, {
      facts: { path: device.port.path, slot: slot.name },
    });
  }
  return number;
}
