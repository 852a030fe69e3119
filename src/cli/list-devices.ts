import { systemClock } from '../core/clock.ts';
import { Fault, isGone, toFault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { comparePaths } from '../core/usb-path.ts';
import { DfuDevice } from '../dfu/dfu-device.ts';
import { dctAlternate } from '../job/alternates.ts';
import { isPart2Empty, readModules } from '../job/modules-on-device.ts';
import type { ModuleThere } from '../job/modules-on-device.ts';
import { readDct } from '../job/steps/preflight.ts';
import { DeviceQueues } from '../fleet/queues.ts';
import { classifyPrivateKey } from '../photon/classify-key.ts';
import { DCT, fieldOf } from '../photon/dct.ts';
import { bootloaderOf, idFromDct, idFromSerial, recognize } from '../photon/identity.ts';
import type { UsbBus, UsbPort } from '../usb/port.ts';

/** A device as `devices` tells of it. */
export interface ListedDevice {
  readonly path: string;
  readonly hub: string;
  /** Four hex digits, as lsusb writes them. */
  readonly vendorId: string;
  readonly productId: string;
  readonly mode: 'dfu' | 'normal';
  readonly bootloader: 'old' | 'new' | null;
  readonly serial: string | null;
  readonly deviceId: string | null;
  /** Where the ID comes from. */
  readonly identity: 'serial' | 'dct' | 'unknown';
  /** Null in normal mode, and where they could not be read. */
  readonly modules: readonly ListedModule[] | null;
  /** What lies in the private key's field, or the code of why it could not be read; null in normal mode. */
  readonly key: string | null;
}

export type ListedModule = Pick<ModuleThere, 'slot' | 'state' | 'version' | 'function'>;

/** Every Photon and P1 on the buses. Keys are read and classified; nothing is written. */
export async function listDevices(
  buses: readonly UsbBus[],
  limits: { concurrency: number; perHub: number },
): Promise<ListedDevice[]> {
  const queues = new DeviceQueues(limits, systemClock);
  const ports = (await Promise.all(buses.map(bus => bus.list()))).flat();
  const listed = await Promise.all(ports.map(port => queues.run(port.hub, () => describe(port))));
  return listed.flatMap(device => device ?? []).sort((a, b) => comparePaths(a.path, b.path));
}

async function describe(port: UsbPort): Promise<ListedDevice | null> {
  const kind = recognize(port.vendorId, port.productId);
  if (!kind) return null;
  const facts = {
    path: port.path,
    hub: port.hub,
    vendorId: port.vendorId.toString(16).padStart(4, '0'),
    productId: port.productId.toString(16).padStart(4, '0'),
    mode: kind.mode,
  };
  if (kind.mode === 'normal') {
    const serial = port.serialNumber ?? null;
    const deviceId = serial === null ? null : idFromSerial(0xffff, serial); // in normal mode the serial is the ID
    const identity = deviceId === null ? ('unknown' as const) : ('serial' as const);
    return { ...facts, bootloader: null, serial: shown(serial), deviceId, identity, modules: null, key: null };
  }
  const bootloader = bootloaderOf(port.release);
  let serial = port.serialNumber ?? null;
  let serialId = idFromSerial(port.release, serial);
  let modules: ListedDevice['modules'] = null;
  try {
    await using device = await DfuDevice.open(port, systemClock);
    serial = device.descriptors.serialNumber;
    serialId = idFromSerial(port.release, serial);
    const alternate = dctAlternate(device);
    await device.toIdle();
    modules = await modulesOf(device);
    if (modules && isPart2Empty(modules)) throw new Fault('DCT_UNREADABLE', 'system-part2 is empty');
    const dct = await readDct(device, alternate);
    const { classification } = classifyPrivateKey(fieldOf(dct, DCT.DEVICE_PRIVATE_KEY));
    const dctId = idFromDct(dct);
    dct.fill(0);
    const identity: ListedDevice['identity'] = serialId !== null ? 'serial' : dctId !== null ? 'dct' : 'unknown';
    const told = { ...facts, bootloader, serial: shown(serial), deviceId: serialId ?? dctId, identity };
    return { ...told, modules, key: classification };
  } catch (error) {
    const identity: ListedDevice['identity'] = serialId === null ? 'unknown' : 'serial';
    const told = { ...facts, bootloader, serial: shown(serial), deviceId: serialId, identity };
    return { ...told, modules, key: toFault(error).code };
  }
}

/** Null where they can't be read, which is no reason to tell nothing else of the device. */
async function modulesOf(device: DfuDevice): Promise<ListedModule[] | null> {
  try {
    const there = await readModules(device);
    return there.map(({ slot, state, version, function: fn }) => ({ slot, state, version, function: fn }));
  } catch (error) {
    if (isGone(error)) throw error;
    await device.recover();
    return null;
  }
}

function shown(serial: string | null): string | null {
  return serial === null ? null : printable(serial, 80);
}
