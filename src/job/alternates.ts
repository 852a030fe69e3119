import { Fault } from '../core/errors.ts';
import type { DfuDevice } from '../dfu/dfu-device.ts';
import { parseMemoryMap } from '../dfu/memory-map.ts';
import { ALTERNATE } from '../photon/dct.ts';

/** The alternate setting with the DCT, on a device that has all of a Photon's. @throws Fault DEVICE_UNEXPECTED */
export function dctAlternate(device: DfuDevice): number {
  alternateNamed(device, ALTERNATE.FLASH);
  return alternateNamed(device, ALTERNATE.DCT);
}

/** The number of an alternate setting, told by the beginning of its name. @throws Fault DEVICE_UNEXPECTED */
export function alternateNamed(device: DfuDevice, prefix: string): number {
  const { alternates } = device.descriptors;
  const found = alternates.find(({ name }) => name.startsWith(prefix));
  if (!found || !parseMemoryMap(found.name)) {
    throw new Fault('DEVICE_UNEXPECTED', 'its alternate settings are not those of a Photon', {
      facts: { path: device.port.path, alternates: alternates.map(({ name }) => name.slice(0, 40)).join(', ') },
    });
  }
  return found.number;
}
