import { systemClock } from '../core/clock.ts';
import { toFault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { comparePaths } from '../core/usb-path.ts';
import { DfuDevice } from '../dfu/dfu-device.ts';
import { dctAlternate } from '../job/alternates.ts';
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
  /** What lies in the private key's field, or the code of why it could not be read; null in normal mode. */
  readonly key: string | null;
}

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
    return { ...facts, bootloader: null, serial: shown(serial), deviceId, identity, key: null };
  }
  const bootloader = bootloaderOf(port.release);
  let serial = port.serialNumber ?? null;
  let serialId = idFromSerial(port.release, serial);
  try {
    await using device = await DfuDevice.open(port, systemClock);
    serial = device.descriptors.serialNumber;
    serialId = idFromSerial(port.release, serial);
    const alternate = dctAlternate(device);
    await device.toIdle();
    const dct = await readDct(device, alternate);
    const { classification } = classifyPrivateKey(fieldOf(dct, DCT.DEVICE_PRIVATE_KEY));
    const dctId = idFromDct(dct);
    dct.fill(0);
    const identity = serialId !== null ? 'serial' : dctId !== null ? 'dct' : 'unknown';
    return { ...facts, bootloader, serial: shown(serial), deviceId: serialId ?? dctId, identity, key: classification };
  } catch (error) {
    const identity = serialId === null ? 'unknown' : 'serial';
    return { ...facts, bootloader, serial: shown(serial), deviceId: serialId, identity, key: toFault(error).code };
  }
}

function shown(serial: string | null): string | null {
  return serial === null ? null : printable(serial, 80);
}
