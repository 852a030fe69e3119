import { Fault } from '../../core/errors.ts';
import { failPoint } from '../../core/fail-points.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step } from '../step.ts';

/** Step 8: out of DFU mode. Only a device that passed comes here; every other one stays where it can be worked on. */
export const leave: Step<NoOptions> = {
  name: 'leave',
  options: NO_OPTIONS,
  deadlineMs: 30_000,
  async run({ device, ledger, clock, work, plan }) {
    await device.leave();
    failPoint('leave:left');
    if (!plan.writes) return 'ok';
    if (work.writeId === null) throw new Fault('BUG', 'leave without a write');
    await ledger.markLeft({ writeId: work.writeId, at: clock.now() });
    return 'ok';
  },
};
