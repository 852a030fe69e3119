import { Fault, isGone, toFault } from '../core/errors.ts';
import type { FaultCode } from '../core/errors.ts';
import { failPoint } from '../core/fail-points.ts';
import type { StepRecord } from '../core/ledger.ts';
import { DfuDevice } from '../dfu/dfu-device.ts';
import type { Job } from '../job/job.ts';
import type { StepContext } from '../job/step.ts';
import { STEPS } from '../job/steps.ts';
import { newWork, renewWork, wipeWork } from '../job/work.ts';
import type { Resume } from '../job/work.ts';
import { climb } from './climb.ts';
import type { Grip } from './climb.ts';
import { withDeadline } from './deadline.ts';
import { Ladder } from './ladder.ts';
import type { Rung } from './ladder.ts';
import { backInDfu, untilRunning } from './normal-mode.ts';
import type { Started } from './normal-mode.ts';
import type { SessionOrder, SessionParts } from './run-session.ts';

/** After a roll-back that failed, these say that it is through, or can't be. A bug hides behind nothing. */
const ENDS: readonly FaultCode[] = [
  'CLOUD_REFUSED',
  'CLOUD_KEY_UNCERTAIN',
  'HANDSHAKE_REFUSED',
  'ROLLBACK_CONFLICT',
  'BUG',
];

/** As long as a further go has found nothing else to do on a device that did not leave, all is done there. */
const NOTHING_ELSE: readonly Resume[] = ['fresh', 'send', 'leave'];

/** The steps of one session, and the climbing between them. */
export class Session {
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
    this.#grip = { port: order.port, device: order.opened ?? undefined };
  }

  /** @returns what it failed with in the end; null where every step is through */
  async run(attemptId: number): Promise<Fault | null> {
    const ladder = new Ladder();
    let kept: Fault | null = null;
    for (;;) {
      let fault: Fault;
      try {
        await this.#allSteps(attemptId);
        return await this.#confirmed();
      } catch (error) {
        fault = toFault(error);
      }
      if (await this.#hasLeft(fault)) return await this.#confirmed();
      kept = this.#kept(kept, fault);
      if (!(await this.#climbed(ladder, fault.code))) {
        return kept && !ENDS.includes(fault.code) ? kept : fault;
      }
      this.work = renewWork(this.work);
    }
  }

  /** Where that is asked for: that the device, which has left DFU mode, runs its firmware. @returns why it does not */
  async #confirmed(): Promise<Fault | null> {
    const { job, confirm } = this.#order;
    if (confirm !== 'normal' || !job.plan.leaves) return null;
    const name = 'confirm-normal';
    this.#order.onStep(name);
    try {
      await this.#grip.device?.close();
      await this.#recorded(name, async () => {
        await untilRunning(this.#started());
        return 'ok';
      });
      return null;
    } catch (error) {
      return toFault(error);
    }
  }

  #started(): Started {
    const { subject, findAgain, findNormal = () => null, enterDfu = false, drain } = this.#order;
    const { clock } = this.#parts;
    return { deviceId: subject.deviceId, before: this.#grip.port, clock, findAgain, findNormal, enterDfu, drain };
  }

  async #backInDfu(): Promise<Grip | null> {
    await this.#grip.device?.leave();
    await this.#grip.port.close();
    const port = await backInDfu(this.#started());
    return port && { port, device: undefined };
  }

  /** What a later fault must not hide: that the old key is not back, or that all is done but the leaving. */
  #kept(kept: Fault | null, fault: Fault): Fault | null {
    if (fault.code === 'LEAVE_FAILED') {
      this.#leaving = { writeId: this.work.writeId };
      return kept ?? fault;
    }
    if (!NOTHING_ELSE.includes(this.work.resume)) this.#leaving = null;
    if (fault.code === 'ROLLBACK_FAILED') return fault;
    return kept?.code === 'LEAVE_FAILED' && this.#leaving === null ? null : kept;
  }

  /** A device that did not seem to leave, and vanishes or is about to reset by the time it is asked again, has left. */
  async #hasLeft(fault: Fault): Promise<boolean> {
    const leaving = this.#leaving;
    if (leaving === null || !NOTHING_ELSE.includes(this.work.resume)) return false;
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
      onProgress: how => this.#order.onStep(how),
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
      if (rung === 'back-in-dfu' && this.#order.enterDfu !== true) continue; // it would run, and only a hand get it back
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
        const grip =
          rung === 'back-in-dfu'
            ? await this.#backInDfu()
            : await climb(rung, this.#grip, { clock: this.#parts.clock, findAgain, drain });
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
