import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import type { Caller, Claimer } from '../core/cloud-calls.ts';
import type { DeviceId } from '../core/device-id.ts';
import type { Ledger, Sender, StepState } from '../core/ledger.ts';
import type { Prover } from '../core/prover.ts';
import type { DfuDevice } from '../dfu/dfu-device.ts';
import type { KeyPair } from '../keys/make-key-pair.ts';
import type { Vault } from '../vault/vault.ts';
import type { WantedModule } from './firmware-files.ts';
import type { JobPlan } from './job.ts';
import type { Work } from './work.ts';

/** The row that is worked on: what the manifest says of this device. */
export interface Subject {
  readonly deviceId: DeviceId;
  readonly productId: string | null;
  /** Modules of its own for the step `firmware`, in place of the job's. */
  readonly firmware?: readonly WantedModule[];
  readonly name: string | null;
}

/** What a step is handed. It asks for nothing else, and what it finds out it leaves in `work`. */
export interface StepContext {
  readonly subject: Subject;
  readonly attemptId: number;
  readonly plan: JobPlan;
  readonly device: DfuDevice;
  readonly ledger: Ledger;
  readonly sender: Sender;
  readonly prover?: Prover;
  /** Where the job fetches claim codes. */
  readonly claimer?: Claimer;
  /** Where the job asks the cloud for more than the send. */
  readonly caller?: Caller;
  readonly vault: Vault;
  readonly clock: Clock;
  readonly makeKey: () => Promise<KeyPair>;
  /** To be told before a block is written: for as long the device is busy by itself. */
  readonly onWriting: () => void;
  /** To be told how far a long step has come, in a few words. */
  readonly onProgress?: (how: string) => void;
  /** `--again`: begun anew on purpose, so that a roll-back in conflict is given up and the device gets a fresh key. */
  readonly again: boolean;
  /** Aborts when no new work is wanted (Ctrl-C): looked at before anything is written, never after. */
  readonly drain: AbortSignal;
  readonly work: Work;
}

/** A step: its name in a job file, its options there, how long it may take, and what it does. */
export interface Step<Options> {
  readonly name: string;
  readonly options: z.ZodType<Options>;
  readonly deadlineMs: number;
  /**
   * Safe to run again. Returns `skipped` where the record says that nothing is left to do.
   * @throws Fault, which ends the session
   */
  run(context: StepContext, options: Options): Promise<Extract<StepState, 'ok' | 'skipped'>>;
}

/** For a step that takes none; one schema for all of them. */
export type NoOptions = Record<string, never>;
export const NO_OPTIONS: z.ZodType<NoOptions> = z.strictObject({});
