import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import type { StepContext } from './step.ts';

/** The ID in the DCT, where there is one, is that of the row. @throws Fault IDENTITY_MISMATCH */
export function checkDctId({ subject, device }: Pick<StepContext, 'subject' | 'device'>, id: DeviceId | null): void {
  if (id === null || id === subject.deviceId) return;
  throw new Fault('IDENTITY_MISMATCH', `its DCT says ${id}, and it was taken for ${subject.deviceId}`, {
    facts: { path: device.port.path, found: id },
  });
}
