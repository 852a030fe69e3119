import { NO_REASON } from '../core/clock.ts';
import type { Clock } from '../core/clock.ts';
import { callOf, cloudAfterCall } from '../core/cloud-calls.ts';
import type { DeviceId } from '../core/device-id.ts';
import { countsAgainstDevice, Fault, toFault } from '../core/errors.ts';
import type { FaultCode } from '../core/errors.ts';
import type { RunSummary } from '../core/events.ts';
import { FAULTS } from '../core/fault-codes.ts';
import type { Finished } from '../core/outcomes.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import { runSession } from '../session/run-session.ts';
import type { SessionOrder, SessionRecord } from '../session/run-session.ts';
import type { DfuDevice } from '../session/run-session.ts';
import type { UsbPort } from '../usb/port.ts';
import { Arrivals } from './arrivals.ts';
import { BusWatch } from './bus-watch.ts';
import type { FleetOptions, FleetParts } from './options.ts';
import { DeviceQueues } from './queues.ts';
import { badDevice, judge } from './judge.ts';
import { indexRows } from './match-row.ts';
import { Roster } from './roster.ts';
import { Sockets } from './sockets.ts';
import { Switching } from './switching.ts';
import { tooManyFailed } from './stop-rules.ts';
import { countOutcomes, exitCodeOf } from './totals.ts';

/**
 * One job over one manifest. Devices that come are identified (arrivals.ts) and worked on in sessions, as many at once as
 * the queues allow, until every row is settled (roster.ts), no more may be begun, or nothing came for long enough.
 * @throws Fault where the record can't be written: then nothing may go on
 */
export async function runFleet(options: FleetOptions, parts: FleetParts): Promise<RunSummary> {
  return new Fleet(options, parts).run();
}

/** A device that is being worked on. */
interface Working {
  readonly path: UsbPath;
  readonly port: UsbPort;
  readonly stop: AbortController;
  /** Where another device with its ID has turned up. */
  twin: UsbPath | null;
}

/** What is to be done with it. */
interface Work {
  readonly row: ManifestRow;
  readonly working: Working;
  readonly opened: DfuDevice | null;
  readonly onWriting: () => void;
}

const SETTLE_AT_ONCE = 200;
const LOOK_AGAIN_MS = 1000;

class Fleet {
  readonly #o: FleetOptions;
  readonly #parts: FleetParts;
  readonly #clock: Clock;
  readonly #queues: DeviceQueues;
  readonly #roster: Roster;
  readonly #arrivals: Arrivals;
  readonly #watch: BusWatch;
  readonly #switching: Switching;
  readonly #working = new Map<DeviceId, Working>();
  readonly #sockets = new Sockets();
  readonly #tasks = new Set<Promise<void>>();
  readonly #began: number;
  /** One for all: an error takes its stack along. */
  readonly #notSeen = new Fault('NOT_SEEN', 'it never appeared in DFU mode');
  #started = 0;
  /** Devices that were begun, or switched so that they will be: as many as --limit lets. */
  readonly #promised = new Set<DeviceId>();
  /** Why no more devices are begun, once that is so. */
  #closed: FaultCode | 'limit' | null = null;
  #over = false;
  /** The record could not be written. */
  #failure: Fault | null = null;
  #wake = new AbortController();

  constructor(options: FleetOptions, parts: FleetParts) {
    this.#o = options;
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#began = this.#clock.monotonicMs();
    this.#queues = new DeviceQueues(options, parts.clock);
    this.#roster = new Roster(options, parts.fleetLedger, parts.clock, () => this.#wake.abort(NO_REASON));
    this.#watch = new BusWatch(options.buses, parts.clock, {
      greet: port => this.#arrivals.greet(port),
      onArrived: ports => this.#track(this.#arrivals.take(ports)),
      onNormal: ports => this.#track(this.#switching.take(ports)),
      onTrouble: (bus, fault) => this.#note(`${bus.name}: ${fault.message}`, fault.hint),
    });
    const index = indexRows(options.rows);
    this.#switching = new Switching({
      allowed: options.enterDfu === true,
      clock: parts.clock,
      openRow: (deviceId, path) => {
        const row = index.byId.get(deviceId);
        if (!row || !this.#roster.isOpen(row) || this.#working.has(deviceId)) return null;
        if (this.#closed !== null || this.#over || this.#sockets.isBad(path)) return null;
        // Through already, as the record knows: it is settled without being touched.
        if (this.#roster.before(deviceId)?.finishable) return null;
        const here = index.byPort.get(path);
        if (here && here.deviceId !== deviceId) return null;
        const { limit } = this.#o;
        return limit === null || this.#promised.has(deviceId) || this.#promised.size < limit ? row : null;
      },
      find: (path, sinceMs) => this.#watch.find(path, sinceMs),
      isWorkedAt: path => this.#workedAt(path) !== undefined,
      onSwitch: (deviceId, path) => {
        this.#promised.add(deviceId);
        this.#arrivals.expect();
        options.observer({ type: 'step', ts: this.#clock.now(), deviceId, path, step: 'enter-dfu' });
      },
      onTrouble: (deviceId, path, fault) =>
        this.#note(`${deviceId} at ${path} can't be switched into DFU mode: ${fault.message}`, fault.hint),
      drain: options.drain,
    });
    this.#arrivals = new Arrivals({
      options,
      index,
      clock: parts.clock,
      queues: this.#queues,
      roster: this.#roster,
      isPresent: path => this.#watch.isPresent(path),
      forget: path => this.#watch.forget(path),
      isClosed: () => this.#closed !== null || this.#over,
      learnedAt: path => this.#switching.learnedAt(path),
      begin: (row, port, opened) => this.#begin(row, port, opened),
      isWorkedOn: deviceId => this.#working.has(deviceId),
      workedAt: path => this.#workedAt(path)?.port ?? null,
      twinOf: (deviceId, other) => this.#twinOf(deviceId, other),
    });
  }

  async run(): Promise<RunSummary> {
    const { runId: run, resumed, job, manifest, rows, observer, drain } = this.#o;
    const ts = this.#clock.now();
    observer({ type: 'run-started', ts, run, job: job.name, manifest, rows: rows.length, resumed });
    this.#roster.skipSettled();
    const onDrain = (): void => this.#close('INTERRUPTED');
    drain.addEventListener('abort', onDrain);
    if (drain.aborted) onDrain(); // an abort that came earlier is not told again
    try {
      await this.#settleRolledBack();
      if (this.#roster.openRows() > 0 && this.#closed === null) {
        await this.#watch.start();
        this.#track(this.#settleFromRecord());
      }
      await this.#untilDone();
    } finally {
      drain.removeEventListener('abort', onDrain);
      this.#over = true;
      await this.#watch.close();
      // The last look may have found somebody; nobody is left behind.
      while (this.#tasks.size > 0) await Promise.all(this.#tasks);
    }
    if (this.#failure) throw this.#failure;
    await this.#settleRest();
    return this.#summarize();
  }

  /** Refused and rolled back before a crash: nothing is left to do, and the device, which is still there, is left alone. */
  async #settleRolledBack(): Promise<void> {
    for (const row of this.#o.rows) {
      const finishable = this.#roster.before(row.deviceId)?.finishable;
      if (finishable?.outcome === 'refused' && this.#roster.isOpen(row)) {
        await this.#roster.settleFromRecord(row, finishable);
      }
    }
  }

  /** Rows that a crash left unsettled although their device had gone through: it need not even be there. */
  async #settleFromRecord(): Promise<void> {
    await this.#arrivals.identified();
    // One that could not say who it is may be any of them: then the end of the run tells.
    if (this.#closed !== null || this.#arrivals.unidentified > 0) return;
    for (const row of this.#o.rows) {
      const finishable = this.#roster.before(row.deviceId)?.finishable;
      if (finishable && this.#arrivals.pathOf(row.deviceId) === null) await this.#settleFinished(row, finishable);
    }
  }

  /** What the cloud was to be asked for may not have come on record before the crash. */
  async #settleFinished(row: ManifestRow, finished: Finished): Promise<void> {
    const { caller } = this.#parts;
    let { cloud } = finished;
    for (const kind of finished.outcome === 'pass' ? (this.#o.job.plan.calls ?? []) : []) {
      const call = callOf(kind, row);
      if (call && caller)
        cloud = cloudAfterCall(cloud, await caller.call(call, { unlessDone: kind !== 'confirm-online' }));
    }
    await this.#roster.settleFromRecord(row, { ...finished, cloud });
  }

  #workedAt(path: UsbPath): Working | undefined {
    return [...this.#working.values()].find(working => working.path === path);
  }

  #begin(row: ManifestRow, port: UsbPort, opened: DfuDevice | null): void {
    if (this.#working.has(row.deviceId)) {
      if (opened) this.#track(opened.close());
      return;
    }
    const working: Working = { path: port.path, port, stop: new AbortController(), twin: null };
    this.#working.set(row.deviceId, working);
    this.#track(this.#queues.runInTurn(port.hub, onWriting => this.#work({ row, working, opened, onWriting })));
  }

  /** `opened`, the device where it is open already, is closed on every road: here or by its session. */
  async #work({ row, working, opened, onWriting }: Work): Promise<void> {
    const { limit, maxFail, observer, runId, job, again } = this.#o;
    const { deviceId, productId, name } = row;
    const { port } = working;
    const firmware = this.#o.rowFirmware?.get(deviceId);
    if (this.#closed !== null) {
      await opened?.close();
      return; // settled with the rest
    }
    if (this.#sockets.isBad(port.path)) {
      await opened?.close();
      this.#working.delete(deviceId);
      const fault = new Fault(
        'SOCKET_BAD',
        `different devices failed in the socket ${port.path}: it takes no more of them`,
      );
      await this.#roster.settleFault(row, port.path, fault);
      return;
    }
    this.#started += 1;
    this.#promised.add(deviceId);
    if (limit !== null && this.#started >= limit) this.#close('limit');
    const order: SessionOrder = {
      runId,
      job,
      subject: { deviceId, productId, name, ...(firmware && { firmware }) },
      port,
      opened,
      onWriting,
      again,
      drain: AbortSignal.any([this.#o.drain, working.stop.signal]),
      findAgain: sinceMs => this.#watch.find(port.path, sinceMs),
      findNormal: sinceMs => this.#watch.findNormal(port.path, sinceMs),
      enterDfu: this.#o.enterDfu === true,
      confirm: this.#o.confirm ?? null,
      onStep: step => observer({ type: 'step', ts: this.#clock.now(), deviceId, path: port.path, step }),
    };
    const record = await runSession(order, this.#parts);
    await this.#roster.settle(row, port.path, this.#judge(row, working, record));
    this.#working.delete(deviceId);
    if (this.#o.unauthorized() !== null) this.#close('CLOUD_UNAUTHORIZED');
    if (tooManyFailed(maxFail, this.#roster.failed, this.#o.rows.length)) this.#close('STOPPED');
  }

  /** The session's outcome in the light of what only the fleet knows. */
  #judge({ deviceId }: ManifestRow, { path, twin }: Working, record: SessionRecord): SessionRecord {
    const before = this.#roster.before(deviceId);
    const judged = judge(record, { deviceId, path, twin, finishable: before?.finishable ?? null });
    if (!countsAgainstDevice(judged.outcome, judged.code)) return judged;
    const { elsewhere, socketTurnedBad } = this.#sockets.failed(path, deviceId, before?.failures?.paths ?? []);
    if (socketTurnedBad) {
      const { hint } = FAULTS.SOCKET_BAD;
      this.#note(`different devices failed in the socket ${path}: it takes no more of them in this run`, hint);
    }
    return elsewhere === null ? judged : badDevice(judged, elsewhere);
  }

  /** The one that is being worked on stops, unless it is being written already. */
  #twinOf(deviceId: DeviceId, other: UsbPath): boolean {
    const working = this.#working.get(deviceId);
    if (!working) return false;
    working.twin = other;
    working.stop.abort();
    this.#note(`${other} says that it is ${deviceId}, as the device at ${working.path} does; it is left alone`, null);
    return true;
  }

  #close(why: FaultCode | 'limit'): void {
    if (this.#closed !== null) return;
    this.#closed = why;
    if (why === 'CLOUD_UNAUTHORIZED') {
      this.#note('the cloud refused the access token: no more devices are begun', FAULTS[why].hint);
    } else if (why === 'STOPPED') {
      this.#note('too many devices failed: no more are begun', FAULTS[why].hint);
    }
    this.#wake.abort(NO_REASON);
  }

  async #untilDone(): Promise<void> {
    const { waitMs } = this.#o;
    for (;;) {
      const woken = this.#nextWake();
      if (this.#tasks.size === 0) {
        if (this.#roster.openRows() === 0 || this.#closed !== null) return;
        const left = waitMs === null ? Infinity : this.#arrivals.lastMs + waitMs - this.#clock.monotonicMs();
        if (left <= 0) return;
        if (waitMs === null) this.#parts.whileIdle?.(this.#roster.openRows());
        await this.#clock.sleep(Math.min(left, LOOK_AGAIN_MS), woken);
      } else if (this.#closed !== null) {
        await Promise.all(this.#tasks);
      } else {
        await aborted(woken);
      }
    }
  }

  /** Aborts at whatever may change what there is to wait for. */
  #nextWake(): AbortSignal {
    if (this.#wake.signal.aborted) this.#wake = new AbortController();
    return this.#wake.signal;
  }

  #track(task: Promise<void>): void {
    const tracked = task
      .catch((error: unknown) => {
        this.#failure ??= toFault(error);
        this.#close('INTERRUPTED');
      })
      .finally(() => {
        this.#tasks.delete(tracked);
        this.#wake.abort(NO_REASON);
      });
    this.#tasks.add(tracked);
    this.#wake.abort(NO_REASON);
  }

  async #settleRest(): Promise<void> {
    const open = this.#o.rows.filter(row => this.#roster.isOpen(row));
    for (let from = 0; from < open.length; from += SETTLE_AT_ONCE) {
      await Promise.all(open.slice(from, from + SETTLE_AT_ONCE).map(row => this.#settleLeftOver(row)));
    }
  }

  async #settleLeftOver(row: ManifestRow): Promise<void> {
    const path = this.#arrivals.pathOf(row.deviceId);
    const finishable = this.#roster.before(row.deviceId)?.finishable;
    if (path === null && finishable && this.#closed === null) {
      await this.#settleFinished(row, finishable);
    } else if (this.#closed === 'limit') {
      this.#roster.skip(row, path, `left for later: --limit ${this.#o.limit ?? 0}`);
    } else if (path !== null && this.#closed !== null) {
      const message =
        this.#closed === 'INTERRUPTED' ? 'interrupted before its turn' : 'the run was stopped before its turn';
      await this.#roster.settleFault(row, path, new Fault(this.#closed, message), 'aborted');
    } else {
      const seen = this.#switching.seen(row.deviceId);
      if (seen?.fault) await this.#roster.settleFault(row, seen.path, seen.fault);
      else {
        const fault = seen ? inNormalMode(seen.path, this.#o.enterDfu === true) : this.#notSeen;
        await this.#roster.settleFault(row, null, fault, 'unseen');
      }
    }
  }

  #note(message: string, hint: string | null): void {
    this.#o.observer({ type: 'note', ts: this.#clock.now(), message, hint });
  }

  async #summarize(): Promise<RunSummary> {
    const { runId, rows, drain, unauthorized, observer } = this.#o;
    const standings = this.#roster.standings();
    const interrupted = drain.aborted;
    const exitCode = exitCodeOf(standings, { interrupted, unauthorized: unauthorized() !== null });
    const at = this.#clock.now();
    await this.#parts.fleetLedger.finishRun({ runId, exitCode, interrupted, at });
    const summary: RunSummary = {
      type: 'summary',
      ts: at,
      run: runId,
      rows: rows.length,
      ...countOutcomes(this.#roster.outcomes()),
      cloudPending: standings.filter(({ cloud }) => cloud === 'pending').length,
      durationMs: Math.round(this.#roster.lastSettledMs - this.#began),
      exitCode,
    };
    observer(summary);
    return summary;
  }
}

function inNormalMode(path: UsbPath, mayBeSwitched: boolean): Fault {
  return new Fault('NOT_SEEN', `it never appeared in DFU mode; it is in normal mode at ${path}`, {
    hint: mayBeSwitched
      ? 'run again: it was not its turn'
      : 'add --enter-dfu, which switches it, or put it into DFU mode by hand (hold SETUP, tap RESET, wait for blinking yellow)',
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise(resolve => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
