import { firstDifference, hexAddress, sameBytes } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { failPoint } from '../core/fail-points.ts';
import { SECTOR_BYTES, slotNamed } from '../photon/modules.ts';
import type { WantedModule } from './firmware-files.ts';
import type { StepContext } from './step.ts';

/** The flash is programmed in words; a last one that is cut short is filled up with what erased flash holds. */
const WORD_BYTES = 4;

/**
 * Writes a module sector by sector, those that differ and no others: erased, written, read back and compared. The order
 * is from the first one on, so that an erased system-part2 has something in it again as soon as can be.
 * @throws Fault WRITE_FAILED, VERIFY_MISMATCH, READ_FAILED, USB_*
 */
export async function flashModule(
  { device, onWriting, onProgress }: Pick<StepContext, 'device' | 'onWriting' | 'onProgress'>,
  alternate: number,
  { slot, bytes }: Pick<WantedModule, 'slot' | 'bytes'>,
): Promise<void> {
  const { address } = slotNamed(slot);
  for (let offset = 0; offset < bytes.length; offset += SECTOR_BYTES) {
    const at = address + offset;
    const next = bytes.subarray(offset, offset + SECTOR_BYTES);
    if (sameBytes(await device.read(alternate, at, next.length), next)) continue;
    const sectors = Math.ceil(bytes.length / SECTOR_BYTES);
    onProgress?.(`firmware ${slot} ${offset / SECTOR_BYTES + 1}/${sectors}`);
    onWriting();
    await device.eraseSector(alternate, at);
    failPoint('flash:erased');
    await device.writeRun(alternate, at, inWords(next));
    const wrong = firstDifference(await device.read(alternate, at, next.length), next);
    if (wrong >= 0) {
      throw new Fault(
        'VERIFY_MISMATCH',
        `what was read back of ${slot} differs from what was written, first at ${hexAddress(at + wrong)}`,
        { facts: { path: device.port.path, slot, address: hexAddress(at + wrong) } },
      );
    }
    failPoint('flash:sector-written');
  }
}

function inWords(bytes: Uint8Array): Uint8Array {
  const whole = Math.ceil(bytes.length / WORD_BYTES) * WORD_BYTES;
  if (whole === bytes.length) return bytes;
  const filled = new Uint8Array(whole).fill(0xff);
  filled.set(bytes);
  return filled;
}
