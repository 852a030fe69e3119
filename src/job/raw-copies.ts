import { firstDifference, sha256Hex, wipe } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { alternateNamed } from './alternates.ts';
import { ALTERNATE, RAW_DCT_COPIES } from '../photon/dct.ts';
import type { StepContext } from './step.ts';

/**
 * Where the DCT reads as zeros, its two raw copies still lie in the internal flash. They are kept as the device's backup:
 * read twice, hashed, sealed, on disk. They hold its keys and its Wi-Fi credentials too.
 * @throws Fault READ_UNSTABLE, READ_FAILED, USB_*
 */
export async function keepRawCopies({ subject, attemptId, device, ledger, vault, clock }: StepContext): Promise<void> {
  const { address, length } = RAW_DCT_COPIES;
  const alternate = alternateNamed(device, ALTERNATE.FLASH);
  const raw = await device.read(alternate, address, length);
  try {
    const again = await device.read(alternate, address, length);
    const at = firstDifference(again, raw);
    wipe(again);
    if (at >= 0) {
      throw new Fault('READ_UNSTABLE', `two reads of the raw DCT copies differ at byte ${at}`, {
        facts: { path: device.port.path, offset: at },
      });
    }
    const takenAt = clock.now();
    const record = { takenAt, sha256: sha256Hex(raw), bytes: raw.length, classification: 'raw-dct', fingerprint: null };
    const sealed = await vault.seal(raw, {
      purpose: 'backup',
      deviceId: subject.deviceId,
      generation: null,
      fingerprint: null,
      at: takenAt,
    });
    await ledger.saveBackup({ deviceId: subject.deviceId, attemptId, ...record, sealed });
  } finally {
    wipe(raw);
  }
}
