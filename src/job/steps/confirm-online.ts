import { callCloud } from '../call-cloud.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step } from '../step.ts';

/**
 * For devices with Wi-Fi: the cloud is asked whether the device has connected since its key was accepted. It can't have as long
 * as it is in DFU mode, so this puts the question on record, and `replay` asks it until the answer is yes. The rack waits for
 * nobody.
 */
export const confirmOnline: Step<NoOptions> = {
  name: 'confirm-online',
  options: NO_OPTIONS,
  deadlineMs: 600_000,
  run: context => callCloud(context, 'confirm-online'),
};
