import type { ListedDevice } from '../usb/usbip-operations.ts';
import { interfaceKind, productIdOf, VENDOR_ID } from './photon-descriptors.ts';
import type { RackDevice } from './rack-device.ts';

const FULL_SPEED = 2;

/** A device as a USB/IP list names it. Its number changes each time it appears, as on a real bus. */
export function listedDevice({ busId, photon, appearance }: RackDevice): ListedDevice {
  const { identity } = photon;
  const [interfaceClass, subclass, protocol] = interfaceKind(identity);
  const [bus = 1, hub = 1] = busId.split(/[-.]/).map(Number);
  return {
    path: `/sys/devices/photon-fleet/usb${bus}/${bus}-${hub}/${busId}`,
    busId,
    busNumber: bus,
    deviceNumber: appearance,
    speed: FULL_SPEED,
    vendorId: VENDOR_ID,
    productId: productIdOf(identity),
    release: identity.release,
    deviceClass: 0,
    subclass: 0,
    protocol: 0,
    configuration: 1,
    configurations: 1,
    interfaceCount: 1,
    // The alternate settings are one interface.
    interfaces: [{ interfaceClass, subclass, protocol }],
  };
}
