import type { Dirent } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault, type Facts } from '../core/errors.ts';
import { parseUsbPath, type UsbPath } from '../core/usb-path.ts';
import { INTERNAL_SECTORS, SERIAL_SECTORS, type KeepSector, type Sector } from './photon-flash.ts';
import type { FlashContent } from './photon-spec.ts';
import { isLock, lockFolder } from './rack-lock.ts';

/**
 * The state folder of a rack: `rack.json` names the devices, and each sector that was ever written is a file of its own,
 * `0001-internal-08004000.bin`. A file is replaced whole (written beside, fsync, rename), so a process that is killed
 * leaves either the old or the new one. One rack uses a folder at a time. Folder 0700, files 0600. What no rack could have
 * made is never touched: a folder that holds it is refused.
 */
const INDEX = 'rack.json';
const SECTOR_FILE = /^((?!0000)\d{4})-(internal|serial)-([0-9a-f]{8})\.bin$/;
/** What is written beside one of the two, until it is renamed. */
const LEFTOVER = /^(?:rack\.json|(?!0000)\d{4}-(?:internal|serial)-[0-9a-f]{8}\.bin)\.[1-9]\d*\.tmp$/;
/** The four digits of a sector's file. */
const LAST_INDEX = 9999;

const deviceRecord = z.object({
  index: z.number().int().min(1).max(LAST_INDEX),
  busId: z.string().transform((text, context) => parseSocket(text) ?? refuse(context, 'a bus ID of this rack')),
  deviceId: z.string().transform((text, context) => parseDeviceId(text) ?? refuse(context, 'a device ID')),
  platform: z.enum(['photon', 'p1', 'electron']),
  bootloader: z.enum(['new', 'old']),
  serialCase: z.enum(['upper', 'lower']),
});
export type DeviceRecord = z.infer<typeof deviceRecord>;

const rackFile = z.object({
  format: z.literal('photon-fleet sim rack'),
  version: z.literal(1),
  devices: z.array(deviceRecord),
});

/** A bus ID without the address of a rack before it, which only a host has use for. */
function parseSocket(text: string): UsbPath | null {
  return text.includes('/') ? null : parseUsbPath(text);
}

function refuse(context: z.RefinementCtx, what: string): never {
  context.addIssue({ code: 'custom', message: `not ${what}` });
  return z.NEVER;
}

type Area = keyof FlashContent;
const LAYOUTS: Readonly<Record<Area, readonly Sector[]>> = { internal: INTERNAL_SECTORS, serial: SERIAL_SECTORS };

export class RackState {
  readonly #folder: string;
  readonly #devices: DeviceRecord[];
  readonly #release: () => Promise<void>;
  #pending: Promise<unknown> = Promise.resolve();
  #serial = 0;

  private constructor(folder: string, devices: DeviceRecord[], release: () => Promise<void>) {
    this.#folder = folder;
    this.#devices = devices;
    this.#release = release;
  }

  /**
   * Takes the folder for this process until `close`.
   * @throws Fault SIM_STATE_INVALID where it holds anything but a rack's state, or another rack uses it
   */
  static async open(folder: string): Promise<RackState> {
    let entries: Dirent[];
    try {
      if ((await mkdir(folder, { recursive: true, mode: 0o700 })) !== undefined) await chmod(folder, 0o700);
      entries = await readdir(folder, { withFileTypes: true });
    } catch (cause) {
      throw invalid(folder, 'it cannot be used as a folder', cause);
    }
    const foreign = entries.find(entry => !entry.isFile() || !isOwn(entry.name));
    if (foreign !== undefined) throw invalid(folder, `it holds \`${foreign.name}\`, which no rack made`);
    const release = await take(folder);
    try {
      const devices = await clear(folder);
      return new RackState(folder, devices, release);
    } catch (thrown) {
      await release();
      throw thrown;
    }
  }

  get devices(): readonly DeviceRecord[] {
    return this.#devices;
  }

  async load(index: number): Promise<FlashContent> {
    const content = { internal: new Map<number, Uint8Array>(), serial: new Map<number, Uint8Array>() };
    for (const name of await readdir(this.#folder)) {
      const [, of, area, address] = SECTOR_FILE.exec(name) ?? [];
      if (area !== 'internal' && area !== 'serial') continue;
      if (Number(of) !== index) continue;
      const sector = LAYOUTS[area].find(each => each.address === Number.parseInt(address ?? '', 16));
      const bytes = await readFile(join(this.#folder, name));
      if (sector?.size !== bytes.length) throw invalid(this.#folder, `\`${name}\` has the wrong size or address`);
      content[area].set(sector.address, bytes);
    }
    return content;
  }

  /**
   * New devices with all that they hold: first the sectors, then the list that makes them exist.
   * @throws Fault SIM_STATE_INVALID, with nothing written, where there is no number left for one of them
   */
  async add(added: readonly { record: DeviceRecord; content: FlashContent }[]): Promise<void> {
    if (added.length === 0) return;
    if (added.some(({ record }) => record.index > LAST_INDEX)) {
      const hint = 'ask for no more devices than it holds, or name another folder';
      throw invalid(this.#folder, `its numbers are used up, the last is ${LAST_INDEX}`, undefined, { hint });
    }
    for (const { record, content } of added) {
      for (const area of ['internal', 'serial'] as const) {
        for (const [address, bytes] of content[area]) await this.#write(sectorName(record.index, area, address), bytes);
      }
      this.#devices.push(record);
    }
    const file = { format: 'photon-fleet sim rack', version: 1, devices: this.#devices };
    await this.#write(INDEX, Buffer.from(`${JSON.stringify(file, null, 2)}\n`));
  }

  /** What a device's flash calls for each sector that it writes. */
  keeper(index: number, area: Area): KeepSector {
    return (sector, content) => this.#write(sectorName(index, area, sector.address), content);
  }

  /** Resolves when nothing is being written any more, and the folder is free for another rack. */
  async close(): Promise<void> {
    await this.#pending;
    await this.#release();
  }

  #write(name: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.#folder, name);
    this.#serial += 1;
    const beside = `${path}.${this.#serial}.tmp`;
    const work = (async () => {
      const file = await open(beside, 'wx', 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(beside, path);
    })();
    this.#pending = Promise.allSettled([this.#pending, work]);
    return work;
  }
}

function sectorName(index: number, area: Area, address: number): string {
  return `${String(index).padStart(4, '0')}-${area}-${address.toString(16).padStart(8, '0')}.bin`;
}

function isOwn(name: string): boolean {
  return name === INDEX || SECTOR_FILE.test(name) || LEFTOVER.test(name) || isLock(name);
}

/** @returns what gives the folder back */
async function take(folder: string): Promise<() => Promise<void>> {
  const lock = await lockFolder(folder).catch((cause: unknown) => {
    throw invalid(folder, 'it cannot be written', cause);
  });
  if (lock.taken) return lock.release;
  const { holder, file } = lock;
  throw invalid(folder, `process ${holder} uses it`, undefined, {
    facts: { folder, holder },
    hint: `stop the rack of process ${holder}, or name another folder; if that process is no rack, delete \`${file}\` there`,
  });
}

/**
 * Removes what a process that was killed left behind while it made a device, or a sector, that no host has seen yet.
 * @returns the devices
 */
async function clear(folder: string): Promise<DeviceRecord[]> {
  const names = await readdir(folder);
  const devices = names.includes(INDEX) ? await readIndex(folder) : [];
  const known = new Set(devices.map(({ index }) => index));
  for (const name of names) {
    const index = SECTOR_FILE.exec(name)?.[1];
    const halfMade = index === undefined ? LEFTOVER.test(name) : !known.has(Number(index));
    if (halfMade) await unlink(join(folder, name));
  }
  return devices;
}

async function readIndex(folder: string): Promise<DeviceRecord[]> {
  let devices: DeviceRecord[];
  try {
    devices = rackFile.parse(JSON.parse(await readFile(join(folder, INDEX), 'utf8'))).devices;
  } catch (cause) {
    throw invalid(folder, `its \`${INDEX}\` was not written by a rack of this version`, cause);
  }
  const indexes = new Set<number>();
  const sockets = new Set<string>();
  for (const { index, busId } of devices) {
    if (indexes.has(index)) throw invalid(folder, `its \`${INDEX}\` has two devices #${index}`);
    if (sockets.has(busId)) throw invalid(folder, `its \`${INDEX}\` has two devices at ${busId}`);
    indexes.add(index);
    sockets.add(busId);
  }
  return devices;
}

function invalid(folder: string, why: string, cause?: unknown, more: { facts?: Facts; hint?: string } = {}): Fault {
  return new Fault('SIM_STATE_INVALID', `${folder} can't hold the state of a rack: ${why}`, {
    facts: { folder },
    cause,
    ...more,
  });
}
