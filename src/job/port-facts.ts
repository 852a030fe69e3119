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

/** Where a device is on the bus, and under which number: another one once it has started anew. */
export function metAs({ path, instance }: { readonly path: string; readonly instance: string }): string {
  return `${path} ${instance}`;
}

/** The ID in the serial that the host has read already; null where it tells none, or is not known before `open`. */
export function idOfPort(port: PortIds & { readonly serialNumber: string | null | undefined }): DeviceId | null {
  return idFromSerial(port.release, port.serialNumber ?? null);
}
