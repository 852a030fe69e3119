import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { gatherEvidence } from '../job/evidence.ts';
import type { Evidence } from '../job/evidence.ts';
import { bootloaderOfPort, idOfSerial, platformOfPort } from '../job/port-facts.ts';
import type { UsbPort } from '../usb/port.ts';

export type { Evidence } from '../job/evidence.ts';

/** A Photon or P1 in DFU mode; everything else on a bus is none of our business. */
export function isCandidate(port: UsbPort): boolean {
  const facts = platformOfPort(port);
  return facts?.mode === 'dfu';
}

/** The bootloader's age, from its release number. */
export const bootloaderOf = bootloaderOfPort;

/**
 * Who a device says it is. The serial that the host's kernel has read already is taken without opening the device, so
 * that a device which is in no manifest is not even opened.
 * @throws Fault USB_*, DESCRIPTOR_INVALID, DEVICE_UNEXPECTED, DFU_*
 */
export async function identifyPort(port: UsbPort, clock: Clock, signal?: AbortSignal): Promise<Evidence> {
  const known = serialIdOf(port);
  if (known !== null) {
    return { serialNumber: port.serialNumber ?? null, serialId: known, dctId: null, dct: 'not-read' };
  }
  return gatherEvidence(port, clock, signal);
}

function serialIdOf(port: UsbPort): DeviceId | null {
  return idOfSerial(port.release, port.serialNumber ?? null);
}
