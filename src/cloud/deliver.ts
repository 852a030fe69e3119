import PQueue from 'p-queue';
import type { Clock } from '../core/clock.ts';
import { failPoint } from '../core/fail-points.ts';
import type { Delivery, LeasedSend, Outbox, RefusalDoubt, Sender } from '../core/ledger.ts';
import type { CloudAnswer, CloudClient } from './client.ts';

const BACK_OFF_FIRST_MS = 5_000;
const BACK_OFF_MOST_MS = 60 * 60_000;
/** How long a lease outlives the request's own deadline. */
export const LEASE_MARGIN_MS = 15_000;
/** The reason where another process has the send, or has had it. */
export const IN_OTHER_HANDS = 'the send is in other hands, or has been settled';

/** What whoever goes through an outbox needs, be it of sends or of calls. */
export interface OutboxParts {
  readonly clock: Clock;
  /** `run:PID` or `replay:PID`. */
  readonly owner: string;
  /** The client's deadline of one request. */
  readonly timeoutMs: number;
  /** Requests on their way at once; their answers are recorded beside them. Not given: as many as there are. */
  readonly requestsAtOnce?: number;
  /** No further one is begun; those under way go on to their end. */
  readonly stop?: AbortSignal;
  /** 0 ≤ x < 1, for the jitter. */
  readonly random: () => number;
}

export interface DeliverParts extends OutboxParts {
  readonly outbox: Outbox;
  readonly client: CloudClient;
  /** Told once, when the cloud says that the token is bad. */
  readonly onUnauthorized: (reason: string) => void;
}

/** Sends keys one at a time for a device, and puts every answer on record before it tells of it. */
export class Deliverer implements Sender {
  readonly #parts: DeliverParts;
  readonly #requests: PQueue;
  #unauthorized: string | null = null;

  constructor(parts: DeliverParts) {
    this.#parts = parts;
    this.#requests = new PQueue({ concurrency: parts.requestsAtOnce ?? Infinity });
  }

  get unauthorized(): string | null {
    return this.#unauthorized;
  }

  /** One try, whether it is due or not. */
  async deliver(sendId: number): Promise<Delivery> {
    return (await this.deliverIf(sendId, true)) ?? { kind: 'pending', reason: this.#unauthorized ?? 'interrupted' };
  }

  /** @returns null where none is begun any more */
  async deliverIf(sendId: number, ignoreDue: boolean): Promise<Delivery | null> {
    const asked = await this.#requests.add(() => this.#ask(sendId, ignoreDue));
    if (asked === null || 'kind' in asked) return asked;
    failPoint('send:answered');
    return this.#record(asked.answer, asked.send);
  }

  async #ask(sendId: number, ignoreDue: boolean): Promise<Delivery | { answer: CloudAnswer; send: LeasedSend } | null> {
    const { outbox, client, clock, owner, timeoutMs, stop } = this.#parts;
    // After a 401 every further request would be refused as well, and might lock the account.
    if (stop?.aborted || this.#unauthorized !== null) return null;
    const at = clock.now();
    const untilAt = at + timeoutMs + LEASE_MARGIN_MS;
    const send = await outbox.leaseSend({ sendId, owner, at, untilAt, ignoreDue });
    if (!send) return { kind: 'pending', reason: IN_OTHER_HANDS };
    failPoint('send:leased');
    const { deviceId, publicPem: publicKeyPem, productId } = send;
    const answer = await client.sendPublicKey({ deviceId, publicKeyPem, productId, orderMs: at });
    if (answer.kind === 'unauthorized') this.refuseToken(answer.reason);
    return { answer, send };
  }

  /** The token is bad: from this moment on nobody else asks. */
  refuseToken(reason: string): void {
    const first = this.#unauthorized === null;
    this.#unauthorized = reason;
    if (first) this.#parts.onUnauthorized(reason);
  }

  async #record(answer: CloudAnswer, send: LeasedSend): Promise<Delivery> {
    const { outbox, clock, owner } = this.#parts;
    const { sendId } = send;
    const at = clock.now();
    switch (answer.kind) {
      case 'accepted': {
        const settled = await outbox.recordAccepted({ sendId, owner, status: answer.status, at });
        return { kind: 'accepted', again: !settled };
      }
      case 'refused': {
        const doubt = doubtOf(answer.status, send);
        const { status, reason } = answer;
        await outbox.recordRefused({ sendId, owner, status, error: reason, doubt, at });
        return { kind: 'refused', status, reason, doubt };
      }
      case 'unauthorized': {
        const { status, reason } = answer;
        await outbox.recordUnknown({ sendId, owner, status, error: reason, mayLandLate: false, nextAt: at, at });
        return { kind: 'pending', reason };
      }
      case 'unknown': {
        const { status, reason, mayLandLate } = answer;
        const nextAt = at + Math.max(answer.retryAfterMs ?? 0, backOffMs(send.attempts, this.#parts.random()));
        await outbox.recordUnknown({ sendId, owner, status, error: reason, mayLandLate, nextAt, at });
        return { kind: 'pending', reason };
      }
    }
  }
}

/** Some servers answer 400 after storing the key; an earlier try without an answer may land late. */
function doubtOf(status: number, { unknowns, unanswered }: LeasedSend): RefusalDoubt {
  if (unanswered > 0) return 'late';
  return status === 400 || unknowns > 0 ? 'stored' : 'none';
}

/** Exponential, from 5 s to an hour, with jitter over the upper half so that a rack does not come back as one. */
export function backOffMs(attempts: number, random: number): number {
  const full = Math.min(BACK_OFF_MOST_MS, BACK_OFF_FIRST_MS * 2 ** Math.min(Math.max(attempts - 1, 0), 20));
  return Math.round(full / 2 + (full / 2) * random);
}

/** For `--offline`: every key stays in the outbox. */
export const offlineSender: Sender = {
  deliver: () => Promise.resolve({ kind: 'pending', reason: 'offline' }),
};
