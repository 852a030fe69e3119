import { callCloud } from '../call-cloud.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step } from '../step.ts';

/**
 * After send: the device is added to the product of its row (`product_id`); skipped where the row has none. As long as its key
 * waits for the cloud, so does this.
 */
export const addToProduct: Step<NoOptions> = {
  name: 'add-to-product',
  options: NO_OPTIONS,
  deadlineMs: 600_000,
  run: context => callCloud(context, 'add-to-product'),
};
