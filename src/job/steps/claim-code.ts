import { sha256Hex, wipe } from '../../core/bytes.ts';
import type { ClaimAnswer } from '../../core/cloud-calls.ts';
import { Fault } from '../../core/errors.ts';
import { composeBlock, dctOf } from '../block.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step, StepContext } from '../step.ts';

/**
 * Between new-key and write: a claim code of the cloud, for DCT 1762, in the same block as the keys. The device publishes it
 * when it next connects, and belongs to the account from then on. It is as secret as a key until then, and is kept nowhere:
 * a write that was cut short by the end of its process is begun anew with another code, and one that this session takes up
 * again goes on with its own.
 */
export const claimCode: Step<NoOptions> = {
  name: 'claim-code',
  options: NO_OPTIONS,
  deadlineMs: 150_000, // `cloud.timeoutMs` is two minutes at most
  async run(context) {
    const { plan, work } = context;
    if (work.resume === 'write' && work.block) return 'skipped'; // made by new-key, with the code that is here
    if (work.resume === 'write' && work.open && work.claimCode) {
      const block = composeBlock(plan, dctOf(work), null, work.claimCode);
      if (sha256Hex(block.next) === work.open.newSha256) {
        work.block = block;
        return 'skipped';
      }
      wipe(block.old, block.next);
    }
    if (work.resume === 'write') work.resume = 'anew'; // its code can't be had again
    if (work.resume !== 'fresh' && work.resume !== 'anew') return 'skipped';
    work.claimCode ??= await fetched(context);
    work.block = composeBlock(plan, dctOf(work), work.key, work.claimCode);
    return 'ok';
  },
};

async function fetched({ subject, claimer }: StepContext): Promise<Buffer> {
  if (!claimer) throw new Fault('BUG', 'a claim code is wanted, and nobody fetches any');
  const answer = await claimer.claimCode(subject.productId);
  if (answer.kind === 'code') return Buffer.from(answer.code.reveal(), 'ascii');
  throw faultOf(answer);
}

function faultOf(answer: Exclude<ClaimAnswer, { kind: 'code' }>): Fault {
  switch (answer.kind) {
    case 'unavailable': {
      const status = answer.status === null ? '' : `${answer.status}: `;
      return new Fault('CLAIM_UNAVAILABLE', `no claim code could be had (${status}${answer.reason})`);
    }
    case 'refused':
      return new Fault('CLAIM_REFUSED', `the cloud refused a claim code with ${answer.status} (${answer.reason})`);
    case 'invalid':
      return new Fault('CLAIM_INVALID', `what the cloud answered with ${answer.status} holds no claim code`);
    case 'unauthorized':
      return new Fault(
        'CLOUD_UNAUTHORIZED',
        `the cloud refused the access token: ${answer.reason}; nothing was written`,
      );
  }
}
