import { firstDifference, sha256Hex, wipe } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step } from '../step.ts';
import { fingerprintWritten } from '../work.ts';

/** Step 6: what was written is read back, every byte; then the key is active and its send pending, in one transaction. */
export const verify: Step<NoOptions> = {
  name: 'verify',
  options: NO_OPTIONS,
  deadlineMs: 30_000,
  async run({ device, ledger, clock, work, plan }) {
    const { resume, writeId, open, block } = work;
    if (resume !== 'fresh' && resume !== 'anew' && resume !== 'write' && resume !== 'verify') return 'skipped';
    if (writeId === null) throw new Fault('BUG', 'verify without a write');
    const place = block ? { offset: block.offset, length: block.next.length } : open;
    if (!place) throw new Fault('BUG', 'verify without a place');
    const there = await device.read(work.alternate, place.offset, place.length);
    // A resumed session knows the hash alone, which does not tell where they differ.
    const wrong = block ? firstDifference(there, block.next) : sha256Hex(there) === open?.newSha256 ? -1 : 0;
    wipe(there);
    if (wrong >= 0) {
      const at = place.offset + wrong;
      throw new Fault(
        'VERIFY_MISMATCH',
        `what was read back differs from what was written, first at byte ${at} of the DCT`,
        {
          facts: { path: device.port.path, offset: at },
        },
      );
    }
    await ledger.markVerified({ writeId, at: clock.now() });
    if (plan.newKey) work.fingerprint = fingerprintWritten(work, plan);
    return 'ok';
  },
};
