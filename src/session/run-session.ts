import type { Clock } from '../core/clock.ts';
import { Fault, isGone, outcomeOf, toFault } from '../core/errors.ts';
import type { FaultCode } from '../core/errors.ts';
import { failPoint } from '../core/fail-points.ts';
import type { Ledger, Sender, StepRecord } from '../core/ledger.ts';
import type { CloudState, Outcome } from '../core/outcomes.ts';
import { DfuDevice } from '../dfu/dfu-device.ts';
import type { Job } from '../job/job.ts';
import { bootloaderOfPort, platformOfPort } from '../job/port-facts.ts';
import type { StepContext, Subject } from '../job/step.ts';
import { STEPS } from '../job/steps.ts';
import type { StepName } from '../job/steps.ts';
import { newWork, renewWork, wipeWork } from '../job/work.ts';
import type { UsbPort } from '../usb/port.ts';
import { climb } from './climb.ts';
import type { FindAgain, Grip } from './climb.ts';
import { Ladder } from './ladder.ts';
import type { Rung } from './ladder.ts';

/** What sessions need of the world; the same for all of a run. */
export interface SessionParts {
  readonly ledger: Ledger;
  readonly sender: Sender;
  readonly vault: StepContext['vault'];
  readonly makeKey: StepContext['makeKey'];
  readonly clock: Clock;
}

export interface SessionOrder {
  readonly runId: number;
  readonly job: Job;
  readonly subject: Subject;
  readonly port: UsbPort;
  /** Begun anew on purpose, over whatever an earlier one left open. */
  readonly again: boolean;
  /** No new work is wanted: a session that has not begun to write stops, one that has goes on to its end. */
  readonly drain: AbortSignal;
  /** How a device that was reset, or has left the bus, is found again at its path. */
  readonly findAgain: FindAgain;
  readonly onStep: (step: StepName | Rung) => void;
}

/** What became of one device. */
export interface SessionRecord {
  readonly attemptId: number | null;
  readonly outcome: Outcome;
  readonly code: FaultCode | null;
  readonly message: string | null;
  readonly hint: string | null;
  readonly fingerprint: string | null;
  readonly cloud: CloudState;
  readonly steps: readonly StepRecord[];
  readonly durationMs: number;
}

/**
 * One device from open to closed: each step of the job in turn, each with its deadline, the recovery ladder where the
 * device fails, and the record of it all. Never throws: an outcome is data.
 */
export async function runSession(order: SessionOrder, parts: SessionParts): Promise<SessionRecord> {
  const { clock, ledger } = parts;
  const { port, subject } = order;
  const startedAt = clock.now();
  const began = clock.monotonicMs();
  const session = new Session(order, parts);
  let attemptId: number | null = null;
  let fault: Fault | null = null;
  try {
    ({ attemptId } = await ledger.beginAttempt({
      runId: order.runId,
      deviceId: subject.deviceId,
      path: port.path,
      platform: platformOfPort(port)?.platform ?? 'unknown',
      bootloader: bootloaderOfPort(port),
      at: startedAt,
    }));
    fault = await session.run(attemptId);
    if (!fault) failPoint('session:end');
  } catch (error) {
    fault = toFault(error);
  } finally {
    await session.close();
  }
  return {
    attemptId,
    outcome: fault ? outcomeOfFault(fault) : 'pass',
    code: fault?.code ?? null,
    message: (fault ?? session.work.note)?.message ?? null,
    hint: (fault ?? session.work.note)?.hint ?? null,
    fingerprint: session.work.fingerprint,
    cloud: session.work.cloud,
    steps: session.steps,
    durationMs: clock.monotonicMs() - began,
  };
}

function outcomeOfFault(fault: Fault): Outcome {
  return fault.code === 'INTERRUPTED' ? 'aborted' : outcomeOf(fault.code);
}

/** After a roll-back that failed, these say that it is through, or can't be. */
const ROLL_BACK_ENDS: readonly FaultCode[] = ['CLOUD_REFUSED', 'CLOUD_KEY_UNCERTAIN', 'ROLLBACK_CONFLICT'];

class Session {
  readonly #order: SessionOrder;
  readonly #parts: SessionParts;
  readonly steps: StepRecord[] = [];
  work = newWork();
  #grip: Grip;
  /** It was to leave DFU mode and did not seem to; `writeId` null: nothing was written. */
  #leaving: { readonly writeId: number | null } | null = null;

  constructor(order: SessionOrder, parts: SessionParts) {
    this.#order = order;
    this.#parts = parts;
    this.#grip = { port: order.port, device: undefined };
  }

  /** @returns what it failed with in the end; null where every step is through */
  async run(attemptId: number): Promise<Fault | null> {
    const ladder = new Ladder();
    let kept: Fault | null = null;
    for (;;) {
      let fault: Fault;
      try {
        await this.#allSteps(attemptId);
        return null;
      } catch (error) {
        fault = toFault(error);
      }
      if (await this.#hasLeft(fault)) return null;
      kept = this.#kept(kept, fault);
      if (!(await this.#climbed(ladder, fault.code))) {
        return kept && !ROLL_BACK_ENDS.includes(fault.code) ? kept : fault;
      }
      this.work = renewWork(this.work);
    }
  }

  /** What a later fault must not hide: that the old key is not back, or that all is done but the leaving. */
  #kept(kept: Fault | null, fault: Fault): Fault | null {
    if (fault.code === 'ROLLBACK_FAILED') return fault;
    if (fault.code === 'LEAVE_FAILED') {
      this.#leaving = { writeId: this.work.writeId };
      return kept ?? fault;
    }
    if (this.work.resume !== 'anew') return kept;
    this.#leaving = null; // another write was begun
    return kept?.code === 'LEAVE_FAILED' ? null : kept;
  }

  /** A device that did not seem to leave, and vanishes or is about to reset by the time it is asked again, has left. */
  async #hasLeft(fault: Fault): Promise<boolean> {
    const leaving = this.#leaving;
    if (leaving === null || this.work.resume === 'anew') return false;
    if (!isGone(fault) && fault.code !== 'DEVICE_LEAVING') return false;
    await this.#recorded('leave', async () => {
      const { ledger, clock } = this.#parts;
      if (leaving.writeId !== null) await ledger.markLeft({ writeId: leaving.writeId, at: clock.now() });
      return 'ok';
    });
    return true;
  }

  /** Never throws: what went wrong before matters more. */
  async close(): Promise<void> {
    await this.#grip.device?.close();
    wipeWork(this.work);
  }

  async #allSteps(attemptId: number): Promise<void> {
    const { job } = this.#order;
    const device = this.#grip.device ?? (await this.#open());
    const context: StepContext = {
      ...this.#parts,
      ...this.#order,
      plan: job.plan,
      attemptId,
      device,
      work: this.work,
    };
    for (const step of job.steps) {
      failPoint(`step:${step.name}`);
      this.#order.onStep(step.name);
      await this.#runStep(step, context);
    }
  }

  /** On record where it fails; where it does not, the step that follows says so. */
  async #open(): Promise<DfuDevice> {
    const { clock } = this.#parts;
    const [startedAt, began] = [clock.now(), clock.monotonicMs()];
    try {
      const device = await DfuDevice.open(this.#grip.port, clock, this.#order.drain);
      this.#grip = { port: this.#grip.port, device };
      return device;
    } catch (error) {
      this.steps.push({ name: 'open', state: 'failed', startedAt, ms: clock.monotonicMs() - began });
      throw error;
    }
  }

  async #runStep({ name, options }: Job['steps'][number], context: StepContext): Promise<void> {
    await this.#recorded(name, async () => {
      if (context.drain.aborted && !context.work.underWay) {
        throw new Fault('INTERRUPTED', 'interrupted before anything was written');
      }
      const step = STEPS[name];
      // The options were checked by this very step's schema when the job was read.
      return withDeadline(step.run(context, options as never), step.deadlineMs, context, name);
    });
  }

  /** Climbs until a rung holds. @returns whether the steps are worth another go */
  async #climbed(ladder: Ladder, code: FaultCode): Promise<boolean> {
    while (!this.#order.drain.aborted) {
      const rung = ladder.next(code);
      if (rung === null) return false;
      this.#order.onStep(rung);
      if (rung === 'ask-replug') {
        await this.#recorded(rung, () => Promise.resolve('ok')); // the fault's hint asks
        return false;
      }
      const grip = await this.#gripBy(rung);
      if (grip) {
        this.#grip = grip;
        return true;
      }
    }
    return false;
  }

  /** null where the rung did not hold, whatever the reason: the fault that led here is the one that is told. */
  async #gripBy(rung: Exclude<Rung, 'ask-replug'>): Promise<Grip | null> {
    const { findAgain, drain } = this.#order;
    const held: Grip[] = [];
    try {
      await this.#recorded(rung, async () => {
        const grip = await climb(rung, this.#grip, { clock: this.#parts.clock, findAgain, drain });
        if (grip) held.push(grip);
        if (rung === 'dfu-recovery' && !this.#grip.device) return 'skipped'; // it could not even be opened
        return grip ? 'ok' : 'failed';
      });
    } catch (error) {
      const fault = toFault(error);
      if (fault.code === 'BUG') throw fault;
    }
    return held[0] ?? null;
  }

  async #recorded(name: string, act: () => Promise<StepRecord['state']>): Promise<void> {
    const { clock } = this.#parts;
    const startedAt = clock.now();
    const began = clock.monotonicMs();
    let state: StepRecord['state'] = 'failed';
    try {
      state = await act();
    } catch (error) {
      if (toFault(error).code === 'INTERRUPTED') state = 'aborted';
      throw error;
    } finally {
      this.steps.push({ name, state, startedAt, ms: clock.monotonicMs() - began });
    }
  }
}

/**
 * A step that takes too long loses its device: the port is closed, which ends whatever transfer it waits for.
 * @throws Fault SESSION_DEADLINE
 */
async function withDeadline<T>(acting: Promise<T>, ms: number, context: StepContext, name: string): Promise<T> {
  const over = new AbortController();
  const overdue: Fault[] = [];
  const late = context.clock.sleep(ms, over.signal).then(async (): Promise<T> => {
    if (over.signal.aborted) return acting;
    const fault = new Fault('SESSION_DEADLINE', `the step ${name} took more than ${ms / 1000} s`, {
      facts: { path: context.device.port.path, step: name },
    });
    overdue.push(fault);
    await context.device.close();
    throw fault;
  });
  try {
    return await Promise.race([acting, late]);
  } catch (error) {
    throw overdue[0] ?? error; // what the closing did to the step is no fault of its own
  } finally {
    over.abort();
    acting.catch(() => undefined); // told already, by the deadline
    late.catch(() => undefined);
  }
}
