import { z } from 'zod';
import { allBytesAre } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
import type { DfuDevice } from '../../dfu/dfu-device.ts';
import { parseMemoryMap } from '../../dfu/memory-map.ts';
import { ALTERNATE, DCT } from '../../photon/dct.ts';
import { idFromDct } from '../../photon/identity.ts';
import type { Step } from '../step.ts';
import { decideResume } from '../work.ts';

/**
 * Step 2: DFU idle, the alternate settings that a Photon has, the DCT readable and of this very device; then what the
 * record says of earlier writes.
 */
export const preflight: Step<Record<string, never>> = {
  name: 'preflight',
  options: z.strictObject({}),
  deadlineMs: 30_000,
  async run({ subject, device, ledger, plan, work }) {
    work.alternate = dctAlternate(device);
    await device.toIdle();
    const dct = await readDct(device, work.alternate);
    work.dct = dct;
    const id = idFromDct(dct);
    if (id !== null && id !== subject.deviceId) {
      throw new Fault('IDENTITY_MISMATCH', `its DCT says ${id}, and it was taken for ${subject.deviceId}`, {
        facts: { path: device.port.path, found: id },
      });
    }
    if (!plan.writes) return 'ok';
    work.open = await ledger.openWrite(subject.deviceId);
    work.resume = decideResume(work.open, dct);
    if (work.open && (work.open.key === null) === plan.newKey) {
      // The open write is another job's.
      if (!plan.newKey) {
        throw new Fault('UNFINISHED_WRITE', 'a re-key of this device was cut short and is not finished yet');
      }
      work.resume = 'anew';
    }
    return 'ok';
  },
};

/** The alternate setting with the DCT, by its name. @throws Fault DEVICE_UNEXPECTED */
export function dctAlternate(device: DfuDevice): number {
  const { alternates } = device.descriptors;
  const found = alternates.find(({ name }) => name.startsWith(ALTERNATE.DCT));
  if (!found || !parseMemoryMap(found.name) || !alternates.some(({ name }) => name.startsWith(ALTERNATE.FLASH))) {
    throw new Fault('DEVICE_UNEXPECTED', 'its alternate settings are not those of a Photon', {
      facts: { path: device.port.path, alternates: alternates.map(({ name }) => name.slice(0, 40)).join(', ') },
    });
  }
  return found.number;
}

/**
 * Bytes 0..8390 of the DCT. With broken system parts the bootloader gives zeros and says OK.
 * @throws Fault DCT_UNREADABLE
 */
export async function readDct(device: DfuDevice, alternate: number): Promise<Buffer> {
  const bytes = await device.read(alternate, 0, DCT.LENGTH);
  if (allBytesAre(bytes, 0)) {
    throw new Fault('DCT_UNREADABLE', 'the DCT reads as zeros', { facts: { path: device.port.path } });
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
