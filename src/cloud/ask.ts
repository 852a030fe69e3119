import { systemClock, type Clock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { isLoopback } from '../core/hosts.ts';
import type { Secret } from '../core/secret.ts';
import type { CloudAnswer } from './answer.ts';
import { httpExchange } from './exchange.ts';
import { judgeAnswer } from './judge.ts';
import { networkReason, neverLeft } from './reason.ts';

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
    // The request would be refused as a whole, and not in our words.
    throw new Fault('CONFIG_INVALID', 'the access token holds characters that no token has');
  }
  const exchange = httpExchange();
  return async ({ method, path, body }, signal) => {
    const secrets = [token.reveal()];
    try {
      const { body: said, ...told } = await exchange({
        method,
        url: `${base}${path}`,
        headers: {
          authorization: `Bearer ${token.reveal()}`,
          'content-type': 'application/json',
          accept: 'application/json',
          'user-agent': 'photon-fleet',
        },
        body: body && JSON.stringify(body),
        timeoutMs,
        signal,
      });
      const answer = judgeAnswer({ ...told, body: said ?? '' }, clock.now(), secrets);
      return { answer, body: answer.kind === 'accepted' ? said : null };
    } catch (thrown) {
      const reason = signal?.aborted ? 'interrupted before an answer came' : networkReason(thrown, secrets);
      const mayLandLate = signal?.aborted === true || !neverLeft(thrown);
      return { answer: { kind: 'unknown', status: null, reason, retryAfterMs: null, mayLandLate }, body: null };
    }
  };
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
