import { callCloud } from '../call-cloud.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step } from '../step.ts';

/**
 * After send: the cloud is told the name of the row (`name`); skipped where the row has none. A device that is provisioned for
 * the first time is claimed only when it connects, which is after it has left DFU mode; until then the cloud may refuse to
 * name it (403, 404). Such a name stays pending, and `replay` brings it when the device is there.
 */
export const name: Step<NoOptions> = {
  name: 'name',
  options: NO_OPTIONS,
  deadlineMs: 600_000,
  run: context => callCloud(context, 'name'),
};
