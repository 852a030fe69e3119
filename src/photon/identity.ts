import { allBytesAre } from '../core/bytes.ts';
import { parseDeviceId } from '../core/device-id.ts';
import type { DeviceId } from '../core/device-id.ts';
import { DCT, fieldOf } from './dct.ts';

export const PARTICLE_VENDOR_ID = 0x2b04;

/** Product IDs in DFU mode (device-os: USBD_PID_DFU of the platforms 6 and 8). */
const DFU_PRODUCTS: Readonly<Record<number, Platform>> = { 0xd006: 'photon', 0xd008: 'p1' };
const NORMAL_PRODUCTS: Readonly<Record<number, Platform>> = { 0xc006: 'photon', 0xc008: 'p1' };

export type Platform = 'photon' | 'p1';
export type UsbMode = 'dfu' | 'normal';
export type Bootloader = 'old' | 'new';

/** What a device is by its vendor and product ID, or null where it is none of ours. */
export function recognize(vendorId: number, productId: number): { platform: Platform; mode: UsbMode } | null {
  if (vendorId !== PARTICLE_VENDOR_ID) return null;
  const dfu = DFU_PRODUCTS[productId];
  if (dfu) return { platform: dfu, mode: 'dfu' };
  const normal = NORMAL_PRODUCTS[productId];
  return normal ? { platform: normal, mode: 'normal' } : null;
}

/** Release number (bcdDevice) from which on the bootloader's USB serial is the device ID. */
const FIRST_RELEASE_WITH_ID = 0x0250;

export function bootloaderOf(release: number): Bootloader {
  return release >= FIRST_RELEASE_WITH_ID ? 'new' : 'old';
}

/** The ID that the USB serial tells, or null: old bootloaders say `00000000010C` on every unit. */
export function idFromSerial(release: number, serialNumber: string | null): DeviceId | null {
  return bootloaderOf(release) === 'new' && serialNumber !== null ? parseDeviceId(serialNumber) : null;
}

/** The ID in the DCT: 12 raw bytes, 0xFF (or zero) where firmware 0.6 or newer never ran. */
export function idFromDct(dct: Uint8Array): DeviceId | null {
  const raw = fieldOf(dct, DCT.DEVICE_ID);
  if (allBytesAre(raw, 0xff) || allBytesAre(raw, 0)) return null;
  return parseDeviceId(Buffer.from(raw).toString('hex'));
}
