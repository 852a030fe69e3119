import type { DeviceId } from '../core/device-id.ts';
import { outcomeOf } from '../core/errors.ts';
import type { Finished } from '../core/outcomes.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { SessionRecord } from '../session/run-session.ts';
import { duplicate } from './arrivals.ts';
import { FROM_RECORD } from './roster.ts';

/** What the fleet knows of a session that is over, and the session does not. */
export interface Circumstances {
  readonly deviceId: DeviceId;
  readonly path: UsbPath;
  /** Where another device with its ID turned up. */
  readonly twin: UsbPath | null;
  readonly finishable: Finished | null;
}

/** The outcome of a session in the light of these. */
export function judge(record: SessionRecord, { deviceId, path, twin, finishable }: Circumstances): SessionRecord {
  if (twin !== null && record.outcome === 'aborted') {
    const { code, message, hint } = duplicate(deviceId, path, twin);
    return { ...record, outcome: outcomeOf(code), code, message, hint };
  }
  // A device that an earlier run had sent out of DFU mode may still be seen for its last half second.
  if (finishable && (record.code === 'USB_GONE' || record.code === 'DEVICE_LEAVING')) {
    const { fingerprint, cloud } = finishable;
    return { ...record, fingerprint, cloud, outcome: 'pass', code: null, message: FROM_RECORD, hint: null };
  }
  return record;
}

/** A device that failed in another socket too. */
export function badDevice(record: SessionRecord, elsewhere: string): SessionRecord {
  const message = `${record.message ?? 'it failed'}; it failed at ${elsewhere} before, so the device is bad, not the socket`;
  return { ...record, outcome: 'fail', message, hint: 'take it off the rack: it failed in two sockets' };
}
