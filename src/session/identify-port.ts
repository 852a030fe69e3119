import type { Clock } from '../core/clock.ts';
import type { DfuDevice } from '../dfu/dfu-device.ts';
import { gatherEvidence } from '../job/evidence.ts';
import type { Evidence } from '../job/evidence.ts';
import { idOfPort, platformOfPort } from '../job/port-facts.ts';
import type { UsbPort } from '../usb/port.ts';

export type { Evidence } from '../job/evidence.ts';

/** A Photon or P1 in DFU mode; everything else on a bus is none of our business. */
export function isCandidate(port: UsbPort): boolean {
  return platformOfPort(port)?.mode === 'dfu';
}

/** Whether the host tells who a device is without opening it. */
export function isToldByBus(port: UsbPort): boolean {
  return idOfPort(port) !== null;
}

/** Who a device says it is; `device` where it had to be opened for that: it still is, and whoever asked closes it. */
export interface Identified {
  readonly evidence: Evidence;
  readonly device: DfuDevice | null;
}

/**
 * Asks a device who it is. The serial that the host's kernel has read already is taken without opening the device, so
 * that a device which is in no manifest is not even opened.
 * @throws Fault USB_*, DESCRIPTOR_INVALID, DEVICE_UNEXPECTED, DFU_*
 */
export async function identifyPort(port: UsbPort, clock: Clock, signal?: AbortSignal): Promise<Identified> {
  const known = idOfPort(port);
  if (known !== null) {
    return { evidence: { serialId: known, dctId: null, dct: 'not-read' }, device: null };
  }
  return gatherEvidence(port, clock, signal);
}
