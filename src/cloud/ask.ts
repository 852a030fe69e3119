import type { ReadableStream } from 'node:stream/web';
import { systemClock, type Clock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { isLoopback } from '../core/hosts.ts';
import type { Secret } from '../core/secret.ts';
import type { CloudAnswer } from './answer.ts';
import { judgeAnswer } from './judge.ts';
import { networkReason, neverLeft } from './reason.ts';

const MAX_BODY_BYTES = 65_536;

export interface CloudClientOptions {
  /** The API's base, without a slash at its end. */
  readonly url: string;
  readonly token: Secret<string>;
  /** For one request, from its first byte to the last of the answer. */
  readonly timeoutMs: number;
  /** Whether the token may go over http:// to another machine. */
  readonly insecure: boolean;
  readonly clock?: Pick<Clock, 'now'>;
}

export interface CloudRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  /** From `/v1/` on, its parts encoded. */
  readonly path: string;
  /** null: none. */
  readonly body: Readonly<Record<string, unknown>> | null;
}

/** The answer as it is judged, and the body of a success; null where it broke off, or goes on beyond 64 KiB. */
export interface Heard {
  readonly answer: CloudAnswer;
  readonly body: string | null;
}

/**
 * Makes one request. Never throws: what goes wrong on the way is `unknown`, an abort by the signal too, since the server may
 * have carried it out.
 */
export type Ask = (request: CloudRequest, signal?: AbortSignal) => Promise<Heard>;

/** @throws Fault CLOUD_INSECURE where the token would go in clear over a network; CONFIG_INVALID where a value is unfit */
export function cloudRequests(options: CloudClientOptions): Ask {
  const { token, timeoutMs, insecure, clock = systemClock } = options;
  const base = checkedBase(options.url, insecure);
  if (!/^[\x21-\x7e]+$/.test(token.reveal())) {
    // fetch would refuse the header, and quote the token in its message.
    throw new Fault('CONFIG_INVALID', 'the access token holds characters that no token has');
  }
  return async ({ method, path, body }, signal) => {
    const secrets = [token.reveal()];
    // A deadline of our own, always: fetch alone waits five minutes for an answer, and for its body for ever.
    const deadline = AbortSignal.timeout(timeoutMs);
    const over = signal ? AbortSignal.any([deadline, signal]) : deadline;
    try {
      const response = await fetch(`${base}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token.reveal()}`,
          'content-type': 'application/json',
          accept: 'application/json',
          'user-agent': 'photon-fleet',
        },
        ...(body !== null && { body: JSON.stringify(body) }),
        redirect: 'manual', // the token goes nowhere else
        signal: over,
      });
      const { status, statusText, headers } = response;
      const retryAfter = headers.get('retry-after');
      const said = await readBody(response, over);
      const answer = judgeAnswer({ status, statusText, retryAfter, body: said ?? '' }, clock.now(), secrets);
      return { answer, body: answer.kind === 'accepted' ? said : null };
    } catch (thrown) {
      const reason = signal?.aborted
        ? 'interrupted before an answer came'
        : deadline.aborted
          ? `no answer within ${timeoutMs} ms`
          : networkReason(thrown, secrets);
      const mayLandLate = signal?.aborted === true || deadline.aborted || !neverLeft(thrown);
      return { answer: { kind: 'unknown', status: null, reason, retryAfterMs: null, mayLandLate }, body: null };
    }
  };
}

/**
 * The body as far as 64 KiB. fetch's own signal is not enough: where a compressed body is damaged and its connection
 * ends, its reader never does (undici 6). The status has come and decides: a body that breaks off, or doesn't end before the
 * deadline, only costs the words. Reading it through lets the connection be used again.
 */
async function readBody(response: Response, over: AbortSignal): Promise<string | null> {
  const body: ReadableStream<Uint8Array> | null = response.body;
  if (!body) return '';
  const reader = body.getReader();
  let giveUp = (): void => undefined;
  const givenUp = new Promise<null>(resolve => {
    giveUp = () => {
      reader.cancel().catch(() => undefined);
      resolve(null);
    };
  });
  if (over.aborted) giveUp();
  over.addEventListener('abort', giveUp);
  const chunks: Uint8Array[] = [];
  try {
    for (let size = 0; ;) {
      const next = await Promise.race([reader.read(), givenUp]);
      if (next === null) return null;
      const { done, value } = next;
      if (done) return Buffer.concat(chunks).toString('utf8');
      chunks.push(value);
      size += value.byteLength;
      if (size > MAX_BODY_BYTES) giveUp();
    }
  } catch {
    return null;
  } finally {
    over.removeEventListener('abort', giveUp); // the signal outlives the answer
  }
}

function checkedBase(url: string, insecure: boolean): string {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.username !== '' || parsed.password !== '') {
    throw new Fault('CONFIG_INVALID', "the cloud's URL must be http:// or https://, without user name and password");
  }
  if (parsed.protocol === 'http:' && !insecure && !isLoopback(parsed.hostname)) {
    throw new Fault('CLOUD_INSECURE', `the access token would go in clear to ${parsed.host}`, {
      facts: { host: parsed.host },
    });
  }
  return `${parsed.origin}${parsed.pathname}`.replace(/\/+$/, '');
}
