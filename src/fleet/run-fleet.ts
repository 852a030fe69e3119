import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { FAULTS } from '../core/fault-codes.ts';
import { Fault, isGone, outcomeOf, toFault } from '../core/errors.ts';
import type { FaultCode } from '../core/errors.ts';
import type { DeviceSettled, RunObserver, RunSummary } from '../core/events.ts';
import type { Settlement, StepRecord } from '../core/ledger.ts';
import type { CloudState, Outcome } from '../core/outcomes.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import { identifyPort } from '../session/identify-port.ts';
import { runSession } from '../session/run-session.ts';
import type { SessionOrder, SessionParts, SessionRecord } from '../session/run-session.ts';
import type { UsbBus, UsbPort } from '../usb/port.ts';
import { BusWatch } from './bus-watch.ts';
import { indexRows, matchRow } from './match-row.ts';
import type { RowIndex } from './match-row.ts';
import { DeviceQueues } from './queues.ts';
import { tooManyFailed } from './stop-rules.ts';
import type { MaxFail } from './stop-rules.ts';
import { countOutcomes, exitCodeOf } from './totals.ts';

/** A row as the record has it before the run. */
export interface RowBefore {
  readonly deviceId: DeviceId;
  readonly settled: boolean;
  readonly outcome: Outcome | null;
  readonly cloud: CloudState;
  readonly finishable: { readonly fingerprint: string | null; readonly cloud: CloudState } | null;
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
  readonly buses: readonly UsbBus[];
  readonly concurrency: number;
  readonly perHub: number;
  /** How long to wait for devices that are not there, from the last arrival; null: until all are settled. */
  readonly waitMs: number | null;
  readonly limit: number | null;
  readonly maxFail: MaxFail | null;
  /** Ctrl-C: no new devices, those being written finish. */
  readonly drain: AbortSignal;
  /** The cloud has said that the token is bad: no new devices; the reason. */
  readonly unauthorized: () => string | null;
  readonly observer: RunObserver;
}

export interface FleetParts extends SessionParts {
  readonly fleetLedger: FleetLedger;
  readonly clock: Clock;
}

/** How long devices that tell who they are wait for the others of their look, so that two with one ID are found. */
const DUPLICATE_WAIT_MS = 2000;
const FROM_RECORD = 'finished from the record';

interface Working {
  readonly path: UsbPath;
  readonly stop: AbortController;
  duplicate: boolean;
}

/** One job over one manifest: who is where, the queues, the stop rules, the totals. */
export async function runFleet(options: FleetOptions, parts: FleetParts): Promise<RunSummary> {
  const fleet = new Fleet(options, parts);
  return fleet.run();
}

class Fleet {
  readonly #o: FleetOptions;
  readonly #parts: FleetParts;
  readonly #clock: Clock;
  readonly #index: RowIndex;
  readonly #before: ReadonlyMap<DeviceId, RowBefore>;
  readonly #queues: DeviceQueues;
  readonly #watch: BusWatch;
  readonly #settled = new Map<DeviceId, DeviceSettled>();
  readonly #working = new Map<DeviceId, Working>();
  readonly #seen = new Map<DeviceId, UsbPath>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #began: number;
  #lastArrival: number;
  #lastSettled: number;
  #started = 0;
  #failed = 0;
  #intake: FaultCode | 'limit' | null = null;
  #wake = new AbortController();

  constructor(options: FleetOptions, parts: FleetParts) {
    this.#o = options;
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#index = indexRows(options.rows);
    this.#before = new Map(options.before.map(row => [row.deviceId, row]));
    this.#queues = new DeviceQueues(options);
    this.#began = this.#clock.monotonicMs();
    this.#lastArrival = this.#began;
    this.#lastSettled = this.#began;
    this.#watch = new BusWatch(options.buses, parts.clock, {
      onArrived: ports => this.#track(this.#arrive(ports)),
      onGone: () => undefined,
      onTrouble: (bus, fault) => this.#note(`${bus.name}: ${fault.message}`, fault.hint),
    });
  }

  async run(): Promise<RunSummary> {
    const { runId, resumed, job, manifest, rows, observer, drain } = this.#o;
    observer({
      type: 'run-started',
      ts: this.#clock.now(),
      run: runId,
      job: job.name,
      manifest,
      rows: rows.length,
      resumed,
    });
    this.#skipSettled();
    const onDrain = (): void => {
      this.#stopIntake('INTERRUPTED');
      this.#wake.abort();
    };
    drain.addEventListener('abort', onDrain);
    try {
      if (this.#openRows() > 0 && !drain.aborted) {
        await this.#watch.start();
        await this.#settleFromRecord();
      }
      await this.#untilDone();
    } finally {
      drain.removeEventListener('abort', onDrain);
      await this.#watch.close();
    }
    await Promise.all(this.#tasks);
    await this.#settleRest();
    return this.#summarize();
  }

  #skipSettled(): void {
    for (const row of this.#o.rows) {
      const before = this.#before.get(row.deviceId);
      if (!before?.settled) continue;
      this.#tell(row, null, {
        outcome: 'skipped',
        message: `settled earlier: ${before.outcome ?? ''}`,
        cloud: before.cloud,
      });
    }
  }

  /** Rows that a crash left unsettled although their device had gone through: nothing more is to be done there. */
  async #settleFromRecord(): Promise<void> {
    // Who is here is known once every device of the first look has been asked.
    await this.#identified;
    for (const row of this.#o.rows) {
      const finishable = this.#before.get(row.deviceId)?.finishable;
      if (!finishable || this.#seen.has(row.deviceId)) continue;
      await this.#settle(row, null, {
        outcome: 'pass',
        code: null,
        message: FROM_RECORD,
        hint: null,
        fingerprint: finishable.fingerprint,
        cloud: finishable.cloud,
        durationMs: 0,
        attemptId: null,
        steps: [],
      });
    }
  }

  #identified: Promise<void> = Promise.resolve();

  async #arrive(ports: readonly UsbPort[]): Promise<void> {
    this.#lastArrival = this.#clock.monotonicMs();
    const found: (() => void)[] = [];
    const ask = async (port: UsbPort): Promise<void> => {
      const start = await this.#queues.run(port.hub, () => this.#identify(port));
      if (start) found.push(start);
    };
    const asked = Promise.all(ports.map(ask)).then(() => undefined);
    this.#identified = asked;
    const patience = new AbortController();
    await Promise.race([asked, this.#clock.sleep(DUPLICATE_WAIT_MS, patience.signal)]);
    patience.abort();
    for (const start of found.splice(0)) start();
    await asked;
    for (const start of found.splice(0)) start();
    this.#lastArrival = Math.max(this.#lastArrival, this.#clock.monotonicMs());
  }

  /** @returns how to begin with the device, or null where it is left alone */
  async #identify(port: UsbPort): Promise<(() => void) | null> {
    if (this.#intake !== null) return null;
    let match;
    try {
      const evidence = await identifyPort(port, this.#clock, { readDct: true, signal: this.#o.drain });
      match = matchRow(port.path, evidence, this.#index);
    } catch (error) {
      const fault = toFault(error);
      const here = this.#index.byPort.get(port.path);
      if (here && !isGone(error)) match = { kind: 'conflict', row: here, fault } as const;
      else match = { kind: 'stranger', deviceId: null, fault } as const;
    }
    switch (match.kind) {
      case 'stranger':
        this.#o.observer({
          type: 'stranger',
          ts: this.#clock.now(),
          path: port.path,
          deviceId: match.deviceId,
          code: match.fault?.code ?? null,
          message: match.fault ? `${match.fault.message}; left alone` : 'not in the manifest; left alone',
        });
        return null;
      case 'conflict':
        if (!this.#isOpen(match.row)) return null;
        await this.#settleFault(match.row, port.path, match.fault);
        return null;
      case 'row':
        return this.#claim(match.row, port);
    }
  }

  /** Two devices with one ID: neither is worked on. */
  #claim(row: ManifestRow, port: UsbPort): (() => void) | null {
    const other = this.#seen.get(row.deviceId);
    const twin = other !== undefined && other !== port.path && this.#watch.isPresent(other);
    this.#seen.set(row.deviceId, port.path);
    if (twin) {
      const working = this.#working.get(row.deviceId);
      if (working) {
        working.duplicate = true;
        working.stop.abort();
        this.#note(
          `${port.path} says that it is ${row.deviceId}, as the device at ${other} does; it is left alone`,
          null,
        );
        return null;
      }
      if (this.#isOpen(row)) {
        this.#twins.add(row.deviceId);
        this.#track(this.#settleFault(row, port.path, duplicate(row.deviceId, other, port.path)));
      }
      return null;
    }
    if (!this.#isOpen(row)) return null;
    return () => this.#begin(row, port);
  }

  readonly #twins = new Set<DeviceId>();

  #begin(row: ManifestRow, port: UsbPort): void {
    if (!this.#isOpen(row) || this.#working.has(row.deviceId) || this.#twins.has(row.deviceId)) return;
    const working: Working = { path: port.path, stop: new AbortController(), duplicate: false };
    this.#working.set(row.deviceId, working);
    this.#track(this.#queues.run(port.hub, () => this.#work(row, port, working)));
  }

  async #work(row: ManifestRow, port: UsbPort, working: Working): Promise<void> {
    const { limit } = this.#o;
    if (limit !== null && this.#started >= limit) this.#stopIntake('limit');
    if (this.#intake !== null) {
      this.#working.delete(row.deviceId);
      return; // settled with the rest
    }
    this.#started += 1;
    const order: SessionOrder = {
      runId: this.#o.runId,
      job: this.#o.job,
      subject: { deviceId: row.deviceId, productId: row.productId },
      port,
      drain: AbortSignal.any([this.#o.drain, working.stop.signal]),
      onStep: step =>
        this.#o.observer({ type: 'step', ts: this.#clock.now(), deviceId: row.deviceId, path: port.path, step }),
    };
    const record = this.#orFromRecord(row, await runSession(order, this.#parts));
    const twin = working.duplicate && record.outcome === 'aborted';
    const fault = twin ? duplicate(row.deviceId, port.path, this.#seen.get(row.deviceId) ?? port.path) : null;
    await this.#settle(row, port.path, {
      ...record,
      ...(fault && { outcome: outcomeOf(fault.code), code: fault.code, message: fault.message, hint: fault.hint }),
    });
    this.#working.delete(row.deviceId);
    const unauthorized = this.#o.unauthorized();
    if (unauthorized !== null) this.#stopIntake('CLOUD_UNAUTHORIZED');
    if (tooManyFailed(this.#o.maxFail, this.#failed, this.#o.rows.length)) this.#stopIntake('STOPPED');
  }

  /** A device that an earlier run had sent out of DFU mode may still be seen for its last half second. */
  #orFromRecord(row: ManifestRow, record: SessionRecord): SessionRecord {
    const finishable = this.#before.get(row.deviceId)?.finishable;
    if (!finishable || (record.code !== 'USB_GONE' && record.code !== 'DFU_NOT_IDLE')) return record;
    const { fingerprint, cloud } = finishable;
    return { ...record, outcome: 'pass', code: null, message: FROM_RECORD, hint: null, fingerprint, cloud };
  }

  #stopIntake(why: FaultCode | 'limit'): void {
    if (this.#intake !== null) return;
    this.#intake = why;
    if (why === 'CLOUD_UNAUTHORIZED')
      this.#note('the cloud refused the access token: no more devices are begun', FAULTS[why].hint);
    if (why === 'STOPPED') this.#note('too many devices failed: no more are begun', FAULTS[why].hint);
    this.#wake.abort();
  }

  /** Ends when every row is settled, no more may be begun, or nothing came for long enough. */
  async #untilDone(): Promise<void> {
    const { waitMs } = this.#o;
    while (this.#openRows() > 0 || this.#tasks.size > 0) {
      if (this.#tasks.size > 0) {
        await Promise.race([...this.#tasks, this.#woken()]);
        if (this.#intake !== null) await Promise.all(this.#tasks);
        continue;
      }
      if (this.#intake !== null) return;
      const left = waitMs === null ? Infinity : this.#lastArrival + waitMs - this.#clock.monotonicMs();
      if (left <= 0) return;
      await this.#clock.sleep(Math.min(left, 1000), this.#wakeSignal());
    }
  }

  #wakeSignal(): AbortSignal {
    if (this.#wake.signal.aborted) this.#wake = new AbortController();
    return this.#wake.signal;
  }

  #woken(): Promise<void> {
    const signal = this.#wakeSignal();
    return new Promise(resolve => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  #track(task: Promise<void>): void {
    const tracked = task
      .catch((error: unknown) => {
        this.#failure ??= toFault(error);
        this.#stopIntake('INTERRUPTED');
      })
      .finally(() => {
        this.#tasks.delete(tracked);
        this.#wake.abort();
      });
    this.#tasks.add(tracked);
    this.#wake.abort();
  }

  /** The record could not be written: nothing may go on. */
  #failure: Fault | null = null;

  async #settleRest(): Promise<void> {
    if (this.#failure) throw this.#failure;
    for (const row of this.#o.rows) {
      if (!this.#isOpen(row)) continue;
      const path = this.#seen.get(row.deviceId) ?? null;
      if (this.#intake === 'limit') {
        this.#tell(row, path, { outcome: 'skipped', message: `left for later: --limit ${this.#o.limit ?? 0}` });
      } else if (path !== null && this.#intake !== null) {
        const message =
          this.#intake === 'INTERRUPTED' ? 'interrupted before its turn' : 'the run was stopped before its turn';
        await this.#settleFault(row, path, new Fault(this.#intake, message), 'aborted');
      } else {
        await this.#settleFault(row, null, new Fault('NOT_SEEN', 'it never appeared in DFU mode'), 'unseen');
      }
    }
  }

  async #settleFault(row: ManifestRow, path: UsbPath | null, fault: Fault, outcome?: Outcome): Promise<void> {
    await this.#settle(row, path, {
      outcome: outcome ?? outcomeOf(fault.code),
      code: fault.code,
      message: fault.message,
      hint: fault.hint,
      fingerprint: null,
      cloud: 'none',
      durationMs: 0,
      attemptId: null,
      steps: [],
    });
  }

  async #settle(
    row: ManifestRow,
    path: UsbPath | null,
    what: Pick<DeviceSettled, 'outcome' | 'code' | 'message' | 'hint' | 'fingerprint' | 'cloud' | 'durationMs'> & {
      attemptId: number | null;
      steps: readonly StepRecord[];
    },
  ): Promise<void> {
    const { hint, ...record } = what;
    await this.#parts.fleetLedger.settleRow({
      runId: this.#o.runId,
      deviceId: row.deviceId,
      path,
      at: this.#clock.now(),
      ...record,
    });
    this.#tell(row, path, { ...record, hint });
  }

  #tell(row: ManifestRow, path: UsbPath | null, what: Partial<DeviceSettled> & Pick<DeviceSettled, 'outcome'>): void {
    if (this.#settled.has(row.deviceId)) return;
    const settled: DeviceSettled = {
      type: 'device',
      ts: this.#clock.now(),
      deviceId: row.deviceId,
      name: row.name,
      path,
      outcome: what.outcome,
      code: what.code ?? null,
      message: what.message ?? null,
      hint: what.hint ?? null,
      fingerprint: what.fingerprint ?? null,
      cloud: what.cloud ?? 'none',
      durationMs: Math.round(what.durationMs ?? 0),
    };
    this.#settled.set(row.deviceId, settled);
    if (what.outcome !== 'skipped') this.#lastSettled = this.#clock.monotonicMs();
    if (['fail', 'error', 'refused'].includes(what.outcome)) this.#failed += 1;
    this.#o.observer(settled);
    this.#wake.abort();
  }

  #isOpen(row: ManifestRow): boolean {
    return !this.#settled.has(row.deviceId);
  }

  #openRows(): number {
    return this.#o.rows.length - this.#settled.size;
  }

  #note(message: string, hint: string | null): void {
    this.#o.observer({ type: 'note', ts: this.#clock.now(), message, hint });
  }

  async #summarize(): Promise<RunSummary> {
    const devices = [...this.#settled.values()];
    const standings = devices.map(device => {
      const before = this.#before.get(device.deviceId);
      return device.outcome === 'skipped'
        ? { outcome: before?.outcome ?? null, cloud: before?.cloud ?? 'none' }
        : { outcome: device.outcome, cloud: device.cloud };
    });
    const interrupted = this.#o.drain.aborted;
    const unauthorized = this.#o.unauthorized() !== null;
    const exitCode = exitCodeOf(standings, { interrupted, unauthorized });
    const at = this.#clock.now();
    await this.#parts.fleetLedger.finishRun({ runId: this.#o.runId, exitCode, interrupted, at });
    const summary: RunSummary = {
      type: 'summary',
      ts: at,
      run: this.#o.runId,
      rows: this.#o.rows.length,
      ...countOutcomes(devices),
      cloudPending: standings.filter(({ cloud }) => cloud === 'pending').length,
      durationMs: Math.round(this.#lastSettled - this.#began),
      exitCode,
    };
    this.#o.observer(summary);
    return summary;
  }
}

function duplicate(deviceId: DeviceId, one: UsbPath, other: UsbPath): Fault {
  return new Fault('IDENTITY_DUPLICATE', `two devices say that they are ${deviceId}: at ${one} and at ${other}`, {
    facts: { path: other, one },
  });
}
