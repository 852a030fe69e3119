import type { DeviceId } from './device-id.ts';
import type { FaultCode } from './errors.ts';
import type { CloudState, Outcome } from './outcomes.ts';
import type { UsbPath } from './usb-path.ts';

/** What a run tells while it works; report/ turns it into a live view, plain lines or NDJSON. `ts`: epoch milliseconds. */
export type RunEvent =
  | {
      readonly type: 'run-started';
      readonly ts: number;
      readonly run: number;
      readonly job: string;
      readonly manifest: string;
      readonly rows: number;
      readonly resumed: boolean;
    }
  | {
      readonly type: 'step';
      readonly ts: number;
      readonly deviceId: DeviceId;
      readonly path: UsbPath;
      readonly step: string;
    }
  | DeviceSettled
  | {
      readonly type: 'stranger';
      readonly ts: number;
      readonly path: UsbPath;
      readonly deviceId: DeviceId | null;
      readonly code: FaultCode | null;
      readonly message: string;
    }
  | { readonly type: 'note'; readonly ts: number; readonly message: string; readonly hint: string | null }
  | RunSummary;

/** Once for every row. */
export interface DeviceSettled {
  readonly type: 'device';
  readonly ts: number;
  readonly deviceId: DeviceId;
  readonly name: string | null;
  readonly path: UsbPath | null;
  readonly outcome: Outcome;
  readonly code: FaultCode | null;
  readonly message: string | null;
  readonly hint: string | null;
  readonly fingerprint: string | null;
  readonly cloud: CloudState;
  readonly durationMs: number;
}

export interface RunSummary {
  readonly type: 'summary';
  readonly ts: number;
  readonly run: number;
  readonly rows: number;
  readonly pass: number;
  readonly fail: number;
  readonly error: number;
  readonly refused: number;
  readonly aborted: number;
  readonly skipped: number;
  readonly unseen: number;
  /** Rows whose newest key the cloud has not accepted yet. */
  readonly cloudPending: number;
  /** From the start until the last row settled. */
  readonly durationMs: number;
  readonly exitCode: number;
}

export type RunObserver = (event: RunEvent) => void;
