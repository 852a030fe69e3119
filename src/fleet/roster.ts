import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault, outcomeOf } from '../core/errors.ts';
import type { DeviceSettled } from '../core/events.ts';
import type { StepRecord } from '../core/ledger.ts';
import type { Failures, Finished, Outcome } from '../core/outcomes.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import type { FleetLedger, FleetOptions, RowBefore } from './options.ts';
import type { Standing } from './totals.ts';

/** What became of a row, as it goes on record. */
export interface Verdict extends Pick<
  DeviceSettled,
  'outcome' | 'code' | 'message' | 'hint' | 'fingerprint' | 'cloud' | 'durationMs'
> {
  readonly attemptId: number | null;
  readonly steps: readonly StepRecord[];
}

const NOTHING_DONE = { fingerprint: null, cloud: 'none', durationMs: 0, attemptId: null, steps: [] } as const;

/** The rows of a run: which are open, which are settled and how. A row is settled once, on record before it is told. */
export class Roster {
  readonly #options: FleetOptions;
  readonly #ledger: FleetLedger;
  readonly #clock: Clock;
  readonly #before: ReadonlyMap<DeviceId, RowBefore>;
  readonly #settled = new Map<DeviceId, Settled>();
  /** One object for all rows that ended alike: a manifest may have a hundred thousand that nobody saw. */
  readonly #alike = new Map<string, Settled>();
  readonly #settling = new Set<DeviceId>();
  readonly #onSettled: () => void;
  /** Rows that ended as fail, error or refused in this run. */
  failed = 0;
  /** Monotonic time at which the last row settled. */
  lastSettledMs: number;

  constructor(options: FleetOptions, ledger: FleetLedger, clock: Clock, onSettled: () => void) {
    this.#options = options;
    this.#ledger = ledger;
    this.#clock = clock;
    this.#before = new Map(options.before.map(row => [row.deviceId, row]));
    this.#onSettled = onSettled;
    this.lastSettledMs = clock.monotonicMs();
  }

  before(deviceId: DeviceId): RowBefore | undefined {
    return this.#before.get(deviceId);
  }

  isOpen(row: ManifestRow): boolean {
    return !this.#settled.has(row.deviceId) && !this.#settling.has(row.deviceId);
  }

  openRows(): number {
    return this.#options.rows.length - this.#settled.size;
  }

  /** What was settled earlier is told as skipped; the record has it already. */
  skipSettled(): void {
    for (const row of this.#options.rows) {
      const before = this.#before.get(row.deviceId);
      if (before?.settled) this.skip(row, null, `settled earlier: ${before.outcome ?? ''}`, before);
      else if (before?.failures?.quarantined) {
        this.skip(row, null, new Fault('QUARANTINED', whyQuarantined(before.failures)), before);
      }
    }
  }

  /** Told, and not put on record. */
  skip(row: ManifestRow, path: UsbPath | null, why: string | Fault, before?: RowBefore): void {
    const { code, message, hint } = typeof why === 'string' ? { code: null, message: why, hint: null } : why;
    this.#tell(row, path, {
      ...NOTHING_DONE,
      outcome: 'skipped',
      code,
      message,
      hint,
      cloud: before?.cloud ?? 'none',
    });
  }

  async settle(row: ManifestRow, path: UsbPath | null, verdict: Verdict): Promise<void> {
    if (!this.isOpen(row)) return;
    this.#settling.add(row.deviceId);
    const { hint, ...record } = verdict;
    const { runId } = this.#options;
    await this.#ledger.settleRow({ runId, deviceId: row.deviceId, path, at: this.#clock.now(), ...record });
    this.lastSettledMs = this.#clock.monotonicMs();
    this.#tell(row, path, { ...record, hint });
  }

  /** Settles a row that no session has worked on. */
  async settleFault(row: ManifestRow, path: UsbPath | null, fault: Fault, outcome?: Outcome): Promise<void> {
    const { code, message, hint } = fault;
    await this.settle(row, path, { ...NOTHING_DONE, outcome: outcome ?? outcomeOf(code), code, message, hint });
  }

  /** Settles a row whose device had gone through before a crash. */
  async settleFromRecord(row: ManifestRow, finished: Finished): Promise<void> {
    const { outcome, uncertain, proofRefused, fingerprint, cloud } = finished;
    const how = { ...NOTHING_DONE, outcome, fingerprint, cloud };
    if (outcome === 'pass') {
      await this.settle(row, null, { ...how, code: null, message: FROM_RECORD, hint: null });
      return;
    }
    const { code, message, hint } = new Fault(
      uncertain ? 'CLOUD_KEY_UNCERTAIN' : proofRefused === undefined ? 'CLOUD_REFUSED' : 'HANDSHAKE_REFUSED',
      `the cloud refused the key${proofRefused === undefined ? '' : ` (${proofRefused})`}; the old key is back on the device (${FROM_RECORD})`,
    );
    await this.settle(row, null, { ...how, code, message, hint });
  }

  /** How each row ended. */
  outcomes(): Iterable<Settled> {
    return this.#settled.values();
  }

  /** Each row as it counts for the exit code: skipped ones by their latest outcome. */
  standings(): readonly Standing[] {
    return [...this.#settled].map(([deviceId, settled]) => {
      if (settled.outcome !== 'skipped') return settled;
      const before = this.#before.get(deviceId);
      if (settled.code === 'QUARANTINED') return { outcome: 'fail', cloud: before?.cloud ?? 'none' };
      return { outcome: before?.outcome ?? null, cloud: before?.cloud ?? 'none' };
    });
  }

  #sharedOf(settled: Settled): Settled {
    const name = `${settled.outcome} ${settled.code ?? ''} ${settled.cloud}`;
    const shared = this.#alike.get(name);
    if (shared === undefined) this.#alike.set(name, settled);
    return shared ?? settled;
  }

  #tell(row: ManifestRow, path: UsbPath | null, verdict: Verdict): void {
    const { outcome, code, message, hint, fingerprint, cloud } = verdict;
    const { deviceId, name } = row;
    const ts = this.#clock.now();
    const durationMs = Math.round(verdict.durationMs);
    const what = { outcome, code, message, hint, fingerprint, cloud, durationMs };
    const settled: DeviceSettled = { type: 'device', ts, deviceId, name, path, ...what };
    this.#settled.set(deviceId, this.#sharedOf({ outcome, code, cloud }));
    this.#settling.delete(deviceId);
    if (['fail', 'error', 'refused'].includes(outcome)) this.failed += 1;
    this.#options.observer(settled);
    this.#onSettled();
  }
}

/** What of a settled row is kept until the end of the run. */
type Settled = Pick<DeviceSettled, 'outcome' | 'code' | 'cloud'>;

export function whyQuarantined({ count, code }: Failures): string {
  return `in quarantine after ${count} failed ${count === 1 ? 'attempt' : 'attempts'}, the last with ${code ?? 'no code'}`;
}

export const FROM_RECORD = 'finished from the record';
