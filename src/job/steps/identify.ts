import { Fault } from '../../core/errors.ts';
import { idFromSerial } from '../../photon/identity.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step } from '../step.ts';

/**
 * Step 1: the device at this path is still the one that was matched to the row. An old bootloader's ID stands in the DCT
 * alone, and is compared in preflight.
 */
export const identify: Step<NoOptions> = {
  name: 'identify',
  options: NO_OPTIONS,
  deadlineMs: 15_000,
  async run({ subject, device }) {
    await Promise.resolve();
    const { serialNumber, release } = device.descriptors;
    const id = idFromSerial(release, serialNumber);
    if (id !== null && id !== subject.deviceId) {
      throw new Fault('IDENTITY_CHANGED', `the device here is ${id} by now, not ${subject.deviceId}`, {
        facts: { path: device.port.path, found: id },
      });
    }
    return 'ok';
  },
};
