import type { Clock } from '../core/clock.ts';
import { Fault, outcomeOf, toFault } from '../core/errors.ts';
import type { FaultCode } from '../core/errors.ts';
import type { Ledger, Sender, StepRecord } from '../core/ledger.ts';
import type { CloudState, Outcome } from '../core/outcomes.ts';
import { DfuDevice } from '../dfu/dfu-device.ts';
import type { Job } from '../job/job.ts';
import { bootloaderOfPort, platformOfPort } from '../job/port-facts.ts';
import type { StepContext, Subject } from '../job/step.ts';
import { STEPS } from '../job/steps.ts';
import type { StepName } from '../job/steps.ts';
import { newWork, wipeWork } from '../job/work.ts';
import type { UsbPort } from '../usb/port.ts';

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
  /** No new work is wanted: a session that has not begun to write stops, one that has goes on to its end. */
  readonly drain: AbortSignal;
  readonly onStep: (step: StepName) => void;
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
 * One device from open to closed: each step of the job in turn, each with its deadline, and the record of it. Never
 * throws: an outcome is data.
 */
export async function runSession(order: SessionOrder, parts: SessionParts): Promise<SessionRecord> {
  const { clock, ledger } = parts;
  const { port, subject } = order;
  const startedAt = clock.now();
  const began = clock.monotonicMs();
  const steps: StepRecord[] = [];
  const work = newWork();
  let attemptId: number | null = null;
  let fault: Fault | null = null;
  let device: DfuDevice | undefined;
  try {
    ({ attemptId } = await ledger.beginAttempt({
      runId: order.runId,
      deviceId: subject.deviceId,
      path: port.path,
      platform: platformOfPort(port)?.platform ?? 'unknown',
      bootloader: bootloaderOfPort(port),
      at: startedAt,
    }));
    device = await DfuDevice.open(port, clock, order.drain);
    const context: StepContext = { ...parts, ...order, plan: order.job.plan, attemptId, device, work };
    for (const step of order.job.steps) {
      order.onStep(step.name);
      await runStep(step, context, steps);
    }
  } catch (error) {
    fault = toFault(error);
  } finally {
    await device?.close();
    wipeWork(work);
  }
  return {
    attemptId,
    outcome: fault ? outcomeOfFault(fault) : 'pass',
    code: fault?.code ?? null,
    message: fault?.message ?? null,
    hint: fault?.hint ?? null,
    fingerprint: work.fingerprint,
    cloud: work.cloud,
    steps,
    durationMs: clock.monotonicMs() - began,
  };
}

function outcomeOfFault(fault: Fault): Outcome {
  return fault.code === 'INTERRUPTED' ? 'aborted' : outcomeOf(fault.code);
}

async function runStep(
  { name, options }: Job['steps'][number],
  context: StepContext,
  steps: StepRecord[],
): Promise<void> {
  const { clock } = context;
  const startedAt = clock.now();
  const began = clock.monotonicMs();
  const step = STEPS[name];
  let state: StepRecord['state'] = 'failed';
  try {
    if (context.drain.aborted && !isUnderWay(context)) {
      throw new Fault('INTERRUPTED', 'interrupted before anything was written');
    }
    // The options were checked by this very step's schema when the job was read.
    const acting = step.run(context, options as never);
    state = await withDeadline(acting, step.deadlineMs, context, name);
  } catch (error) {
    if (toFault(error).code === 'INTERRUPTED') state = 'aborted';
    throw error;
  } finally {
    steps.push({ name, state, startedAt, ms: clock.monotonicMs() - began });
  }
}

/** From its first write on, a session goes to a safe point, which is its end. */
function isUnderWay({ work }: StepContext): boolean {
  return work.writeId !== null;
}

/**
 * A step that takes too long loses its device: the port is closed, which ends whatever transfer it waits for.
 * @throws Fault SESSION_DEADLINE
 */
async function withDeadline<T>(acting: Promise<T>, ms: number, context: StepContext, name: string): Promise<T> {
  const over = new AbortController();
  const late = context.clock.sleep(ms, over.signal).then(async (): Promise<T> => {
    if (over.signal.aborted) return acting;
    await context.device.close();
    throw new Fault('SESSION_DEADLINE', `the step ${name} took more than ${ms / 1000} s`, {
      facts: { path: context.device.port.path, step: name },
    });
  });
  try {
    return await Promise.race([acting, late]);
  } finally {
    over.abort();
    acting.catch(() => undefined); // told already, by the deadline
    late.catch(() => undefined);
  }
}
