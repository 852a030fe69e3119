import { parseUsbPath } from '#src/core/usb-path.ts';
import type { ListedDevice } from '#src/usb/usbip-operations.ts';

/** A Photon as a rack lists it. */
export const LISTED: ListedDevice = {
  path: '/sys/devices/somewhere',
  busId: parseUsbPath('1-2.3')!,
  busNumber: 1,
  deviceNumber: 9,
  speed: 2,
  vendorId: 0x2b04,
  productId: 0xd006,
  release: 0x0250,
  deviceClass: 0,
  subclass: 0,
  protocol: 0,
  configuration: 0,
  configurations: 1,
  interfaceCount: 1,
  interfaces: [{ interfaceClass: 0xfe, subclass: 1, protocol: 2 }],
};
