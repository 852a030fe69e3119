import { addToProduct } from './steps/add-to-product.ts';
import { backup } from './steps/backup.ts';
import { firmware } from './steps/firmware.ts';
import { claimCode } from './steps/claim-code.ts';
import { confirmOnline } from './steps/confirm-online.ts';
import { identify } from './steps/identify.ts';
import { leave } from './steps/leave.ts';
import { name } from './steps/name.ts';
import { newKey } from './steps/new-key.ts';
import { preflight } from './steps/preflight.ts';
import { prove } from './steps/prove.ts';
import { send } from './steps/send.ts';
import { verify } from './steps/verify.ts';
import { write } from './steps/write.ts';

/** Every step there is, in the one order in which they may stand in a job. */
export const STEPS = {
  identify,
  firmware,
  preflight,
  backup,
  'new-key': newKey,
  'claim-code': claimCode,
  write,
  verify,
  send,
  prove,
  'add-to-product': addToProduct,
  name,
  'confirm-online': confirmOnline,
  leave,
} as const;

export type StepName = keyof typeof STEPS;
