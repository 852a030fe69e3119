import type { DeviceId } from '../core/device-id.ts';
import type { RunObserver } from '../core/events.ts';
import type { Settlement } from '../core/ledger.ts';
import type { CloudState, Failures, Finished, Outcome } from '../core/outcomes.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import type { SessionOrder, SessionParts } from '../session/run-session.ts';
import type { UsbBus } from '../usb/port.ts';
import type { MaxFail } from './stop-rules.ts';

/** A row as the record has it before the run. */
export interface RowBefore {
  readonly deviceId: DeviceId;
  readonly settled: boolean;
  readonly outcome: Outcome | null;
  readonly cloud: CloudState;
  /** What its device has against it from earlier attempts. A quarantined one is skipped. */
  readonly failures: Failures | null;
  /** Its device had gone through, and a crash came before the row was settled. */
  readonly finishable: Finished | null;
}

/** What the fleet writes to the record, beyond what its sessions do. */
export interface FleetLedger {
  settleRow(settlement: Settlement): Promise<void>;
  finishRun(run: { runId: number; exitCode: number; interrupted: boolean; at: number }): Promise<void>;
}

export interface FleetOptions {
  readonly runId: number;
  readonly resumed: boolean;
  readonly job: SessionOrder['job'];
  readonly manifest: string;
  readonly rows: readonly ManifestRow[];
  readonly before: readonly RowBefore[];
  /** Devices of the manifest that are left out on purpose (--only). */
  readonly leftOut: ReadonlySet<DeviceId>;
  readonly buses: readonly UsbBus[];
  /** Devices at once, of all and on one hub. */
  readonly concurrency: number;
  readonly perHub: number;
  /** How long to wait for devices that are not there, from the last arrival; null: until all are settled. */
  readonly waitMs: number | null;
  /** At most this many devices are begun with. */
  readonly limit: number | null;
  /** Modules that rows have of their own, for jobs that flash. */
  readonly rowFirmware?: ReadonlyMap<DeviceId, SessionOrder['subject']['firmware']>;
  /** Listed devices in normal mode are switched into DFU mode. */
  readonly enterDfu?: boolean;
  /** What a device that has left DFU mode is to be seen in before it passes. */
  readonly confirm?: 'normal' | null;
  /** Begun anew on settled rows, on purpose. */
  readonly again: boolean;
  readonly maxFail: MaxFail | null;
  /** Ctrl-C: no new devices, those being written finish. */
  readonly drain: AbortSignal;
  /** The reason why the cloud refused the token, once it has. */
  readonly unauthorized: () => string | null;
  readonly observer: RunObserver;
}

export interface FleetParts extends SessionParts {
  readonly fleetLedger: FleetLedger;
  /** Told from time to time while a run that watches has nothing to do, with the number of rows that may yet come. */
  readonly whileIdle?: (openRows: number) => void;
}
