import { allBytesAre } from '../core/bytes.ts';
import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { DfuDevice } from '../dfu/dfu-device.ts';
import { DCT } from '../photon/dct.ts';
import { idFromDct, idFromSerial } from '../photon/identity.ts';
import { dctAlternate } from './alternates.ts';

/** What a device tells of its identity. */
export interface Evidence {
  /** From the USB serial of a newer bootloader. */
  readonly serialId: DeviceId | null;
  /** From the DCT, looked at only where the serial tells nothing. */
  readonly dctId: DeviceId | null;
  /** `zeros`: broken system parts, of which the DCT's ID says nothing. */
  readonly dct: 'not-read' | 'read' | 'zeros';
}

/**
 * Opens a device, asks for its serial and, where that tells nothing, reads the ID in its DCT; nothing is written.
 * @returns what it told, and the device, still open: the caller closes it
 */
export async function gatherEvidence(
  port: Parameters<typeof DfuDevice.open>[0],
  clock: Clock,
  signal?: AbortSignal,
): Promise<{ evidence: Evidence; device: DfuDevice }> {
  const device = await DfuDevice.open(port, clock, signal);
  try {
    return { evidence: await askDevice(device), device };
  } catch (error) {
    await device.close();
    throw error;
  }
}

async function askDevice(device: DfuDevice): Promise<Evidence> {
  const { release, serialNumber } = device.descriptors;
  const serialId = idFromSerial(release, serialNumber);
  if (serialId !== null) return { serialId, dctId: null, dct: 'not-read' };
  const alternate = dctAlternate(device);
  await device.toIdle();
  // The zero test comes before any comparison: all of it, since a field of zeros alone proves nothing.
  const dct = await device.read(alternate, 0, DCT.LENGTH);
  if (allBytesAre(dct, 0)) return { serialId, dctId: null, dct: 'zeros' };
  const dctId = idFromDct(dct);
  dct.fill(0);
  return { serialId, dctId, dct: 'read' };
}
