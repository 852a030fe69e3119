import type { DeviceId } from '../core/device-id.ts';
import { bootloaderOf, idFromSerial, recognize } from '../photon/identity.ts';
import type { Bootloader, Platform, UsbMode } from '../photon/identity.ts';

interface PortIds {
  readonly vendorId: number;
  readonly productId: number;
  readonly release: number;
}

/** What the IDs of a device on a bus say, before it is opened. */
export function platformOfPort(port: PortIds): { platform: Platform; mode: UsbMode } | null {
  return recognize(port.vendorId, port.productId);
}

export function bootloaderOfPort(port: PortIds): Bootloader {
  return bootloaderOf(port.release);
}

export function idOfSerial(release: number, serialNumber: string | null): DeviceId | null {
  return idFromSerial(release, serialNumber);
}
