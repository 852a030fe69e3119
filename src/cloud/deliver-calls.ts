import PQueue from 'p-queue';
import type { Clock } from '../core/clock.ts';
import { failPoint } from '../core/fail-points.ts';
import type {
  CallDelivery,
  Caller,
  CallOutbox,
  ClaimAnswer,
  Claimer,
  LeasedCall,
  NewCall,
} from '../core/cloud-calls.ts';
import type { CloudAnswer } from './answer.ts';
import type { CallClient } from './call-client.ts';
import { backOffMs, LEASE_MARGIN_MS } from './deliver.ts';
import type { OutboxParts } from './deliver.ts';

/** The reason where a call could not be taken: only the record knows which of these it is. */
export const NOT_ITS_TURN = 'it waits for the key of its device or for an earlier call, or is in other hands';

/** Who knows whether the token is bad: the one that sends keys, so that all of them stop together. */
export interface TokenKeeper {
  readonly unauthorized: string | null;
  refuseToken(reason: string): void;
}

export interface CallParts extends OutboxParts {
  readonly outbox: CallOutbox;
  readonly client: CallClient;
  readonly token: TokenKeeper;
}

/** Makes calls one at a time for a device, each on record before it is made, and gets claim codes. */
export class CallDeliverer implements Caller, Claimer {
  readonly #parts: CallParts;
  readonly #requests: PQueue;

  constructor(parts: CallParts) {
    this.#parts = parts;
    this.#requests = new PQueue({ concurrency: parts.requestsAtOnce ?? Infinity });
  }

  async call(call: NewCall, { unlessDone }: { unlessDone: boolean } = { unlessDone: false }): Promise<CallDelivery> {
    const { outbox, clock, token } = this.#parts;
    const { callId, state } = await outbox.queueCall({ ...call, unlessDone, at: clock.now() });
    if (state === 'done') return { kind: 'done' };
    return (await this.deliverIf(callId, true)) ?? { kind: 'pending', reason: token.unauthorized ?? 'interrupted' };
  }

  /** One try of a call that is on record. @returns null where none is begun any more */
  async deliverIf(callId: number, ignoreDue: boolean): Promise<CallDelivery | null> {
    const asked = await this.#requests.add(() => this.#ask(callId, ignoreDue));
    if (asked === null || 'kind' in asked) return asked;
    failPoint('call:answered');
    return this.#record(asked.answer, asked.call);
  }

  async claimCode(productId: string | null): Promise<ClaimAnswer> {
    const { client, token } = this.#parts;
    const answer = await this.#requests.add(async (): Promise<ClaimAnswer> => {
      const reason = token.unauthorized; // every further request would be refused as well
      return reason === null ? client.claimCode(productId) : { kind: 'unauthorized', reason };
    });
    if (answer.kind === 'unauthorized') token.refuseToken(answer.reason);
    return answer;
  }

  async #ask(
    callId: number,
    ignoreDue: boolean,
  ): Promise<CallDelivery | { answer: CloudAnswer; call: LeasedCall } | null> {
    const { outbox, client, token, clock, owner, timeoutMs, stop } = this.#parts;
    if (stop?.aborted || token.unauthorized !== null) return null;
    const at = clock.now();
    const untilAt = at + timeoutMs + LEASE_MARGIN_MS;
    const call = await outbox.leaseCall({ callId, owner, at, untilAt, ignoreDue });
    if (!call) return { kind: 'pending', reason: NOT_ITS_TURN };
    failPoint('call:leased');
    const answer = await client.call(call);
    if (answer.kind === 'unauthorized') token.refuseToken(answer.reason);
    return { answer, call };
  }

  async #record(answer: CloudAnswer, { callId, attempts }: LeasedCall): Promise<CallDelivery> {
    const { outbox, clock, owner, random } = this.#parts;
    const at = clock.now();
    switch (answer.kind) {
      case 'accepted':
        await outbox.recordCallDone({ callId, owner, status: answer.status, at });
        return { kind: 'done' };
      case 'refused': {
        const { status, reason } = answer;
        await outbox.recordCallRefused({ callId, owner, status, error: reason, at });
        return { kind: 'refused', status, reason };
      }
      case 'unauthorized': {
        const { status, reason } = answer;
        await outbox.recordCallUnknown({ callId, owner, status, error: reason, nextAt: at, at });
        return { kind: 'pending', reason };
      }
      case 'unknown': {
        const { status, reason } = answer;
        const nextAt = at + Math.max(answer.retryAfterMs ?? 0, backOffMs(attempts, random()));
        await outbox.recordCallUnknown({ callId, owner, status, error: reason, nextAt, at });
        return { kind: 'pending', reason };
      }
    }
  }
}

/** For `--offline`: every call goes on record, and none is made. */
export function offlineCaller(outbox: Pick<CallOutbox, 'queueCall'>, clock: Pick<Clock, 'now'>): Caller {
  return {
    async call(call, { unlessDone } = { unlessDone: false }) {
      const { state } = await outbox.queueCall({ ...call, unlessDone, at: clock.now() });
      return state === 'done' ? { kind: 'done' } : { kind: 'pending', reason: 'offline' };
    },
  };
}
