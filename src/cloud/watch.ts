import type { Clock } from '../core/clock.ts';
import { toFault, type Fault } from '../core/errors.ts';

const EVERY_MS = 2000;

export interface WatchOptions {
  /** @returns whether to go on; may throw a Fault */
  readonly round: (isFirst: boolean) => Promise<boolean>;
  readonly stop: AbortSignal;
  readonly clock: Pick<Clock, 'sleep'>;
  /** The record failed; told once for each that is another than the one before. */
  readonly onFailure: (fault: Fault) => void;
  /** A round went through again. */
  readonly onMended: () => void;
}

/**
 * Round after round, until the signal or a round says that it is enough. A record that fails (another process holds it, the
 * disk is full) does not end a service: the next round tries again.
 * @throws Fault whatever else a round ends with
 */
export async function watchOutbox({ round, stop, clock, onFailure, onMended }: WatchOptions): Promise<void> {
  let failure: string | null = null;
  for (let isFirst = true; !stop.aborted; isFirst = false) {
    try {
      if (!(await round(isFirst))) return;
      if (failure !== null) onMended();
      failure = null;
    } catch (thrown) {
      const fault = toFault(thrown);
      if (fault.code !== 'DB_FAILED') throw fault;
      if (fault.message !== failure) onFailure(fault);
      failure = fault.message;
    }
    await clock.sleep(EVERY_MS, stop);
  }
}
