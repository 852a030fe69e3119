import { callOf, cloudAfterCall } from '../core/cloud-calls.ts';
import type { CallKind } from '../core/cloud-calls.ts';
import { Fault } from '../core/errors.ts';
import type { StepState } from '../core/ledger.ts';
import type { StepContext } from './step.ts';
import { addNote } from './work.ts';

const SAYS: Readonly<Record<CallKind, string>> = {
  'add-to-product': 'its product',
  name: 'its name',
  'confirm-online': 'to tell of it',
};

/**
 * A call to the cloud as a step: on record, then made if it is its turn. Whatever comes of it, the device goes on, since its
 * key is proven and sent; the row's cloud says where it stands (pending: exit 4, refused: exit 3).
 */
export async function callCloud(
  { subject, caller, work }: StepContext,
  kind: CallKind,
): Promise<Extract<StepState, 'ok' | 'skipped'>> {
  const call = callOf(kind, subject);
  if (!call || work.called.includes(kind)) return 'skipped';
  if (!caller) throw new Fault('BUG', 'the cloud is to be called, and nobody does it');
  const delivery = await caller.call(call);
  work.cloud = cloudAfterCall(work.cloud, delivery);
  if (delivery.kind === 'done') work.called = [...work.called, kind];
  if (delivery.kind === 'refused') {
    addNote(work, {
      message: `the cloud refused ${SAYS[kind]} with ${delivery.status} (${delivery.reason}); its key is not touched by that`,
      hint: `mend what it says, then \`photon-fleet outbox retry ${subject.deviceId}\``,
    });
  }
  return 'ok';
}
