import type { Clock } from '../core/clock.ts';
import { outcomeOf, toFault } from '../core/errors.ts';
import type { Fault, FaultCode } from '../core/errors.ts';
import { failPoint } from '../core/fail-points.ts';
import type { Caller, Claimer } from '../core/cloud-calls.ts';
import type { Ledger, Sender, StepRecord } from '../core/ledger.ts';
import type { CloudState, Outcome } from '../core/outcomes.ts';
import type { Prover } from '../core/prover.ts';
import type { DfuDevice } from '../dfu/dfu-device.ts';
import type { Job } from '../job/job.ts';
import { bootloaderOfPort, platformOfPort } from '../job/port-facts.ts';
import type { StepContext, Subject } from '../job/step.ts';
import type { UsbPort } from '../usb/port.ts';
import type { FindAgain } from './climb.ts';
import { Session } from './session.ts';

export type { DfuDevice } from '../dfu/dfu-device.ts';

/** What sessions need of the world; the same for all of a run. */
export interface SessionParts {
  readonly ledger: Ledger;
  readonly sender: Sender;
  /** For the step `prove`; without it nothing can be proven. */
  readonly prover?: Prover;
  /** For jobs that write a claim code. */
  readonly claimer?: Claimer;
  /** For jobs that ask the cloud for more than the send. */
  readonly caller?: Caller;
  readonly vault: StepContext['vault'];
  readonly makeKey: StepContext['makeKey'];
  /** A key will be asked for before long: one may be made while the device is being read. */
  readonly announceKey?: () => void;
  /** The key that was announced is not needed after all. */
  readonly callOffKey?: () => void;
  readonly clock: Clock;
}

export interface SessionOrder {
  readonly runId: number;
  readonly job: Job;
  readonly subject: Subject;
  readonly port: UsbPort;
  /** The device at the port where it is open already; the session closes it. */
  readonly opened: DfuDevice | null;
  /** Told when the device begins to write, and is busy by itself. */
  readonly onWriting: () => void;
  /** Begun anew on purpose, over whatever an earlier one left open. */
  readonly again: boolean;
  /** No new work is wanted: a session that has not begun to write stops, one that has goes on to its end. */
  readonly drain: AbortSignal;
  /** How a device that was reset, or has left the bus, is found again at its path. */
  readonly findAgain: FindAgain;
  /** The same in normal mode. */
  readonly findNormal?: FindAgain;
  /** Whether it may be switched from normal mode into DFU mode (`--enter-dfu`). */
  readonly enterDfu?: boolean;
  /** What a device that has left is to be seen in before it passes. */
  readonly confirm?: 'normal' | null;
  /** A step or rung that begins, or how far a long step has come. */
  readonly onStep: (step: string) => void;
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
  let owed = order.job.plan.newKey;
  const makeKey: SessionParts['makeKey'] = () => {
    owed = false;
    return parts.makeKey();
  };
  const session = new Session(order, { ...parts, makeKey });
  let attemptId: number | null = null;
  let fault: Fault | null = null;
  if (owed) parts.announceKey?.();
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
    if (owed) parts.callOffKey?.();
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
