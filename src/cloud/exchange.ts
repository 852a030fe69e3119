import { setMaxListeners } from 'node:events';
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

/*
 * One HTTP request and its answer, over node:http and connections that are kept. Node's fetch takes three times the
 * processor for the same, which a rack of devices and a long outbox pay for each send.
 */

const MAX_BODY_BYTES = 65_536;
/** An idle connection is closed before a server would close it (many do after 5 s) beside the next request. */
const IDLE_MS = 4000;

export interface ExchangeRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  /** From the first byte of the request to the last of the answer. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** The answer; its body is null where it broke off, went on beyond 64 KiB, or did not end in time. A redirect is an answer. */
export interface ExchangeAnswer {
  readonly status: number;
  readonly statusText: string;
  readonly retryAfter: string | null;
  readonly body: string | null;
}

/** No status came within `timeoutMs`. */
export class NoAnswerInTime extends Error {}

/**
 * Makes one request.
 * @throws NoAnswerInTime; the signal's reason where it aborts first; what the connection failed with, with its `code`
 */
export type Exchange = (request: ExchangeRequest) => Promise<ExchangeAnswer>;

/** Connections are kept among the requests of one exchange; idle ones hold no process alive. */
export function httpExchange(): Exchange {
  const kept = { keepAlive: true, timeout: IDLE_MS };
  const agents = { 'http:': new HttpAgent(kept), 'https:': new HttpsAgent(kept) };
  return request => {
    const url = new URL(request.url);
    const isTls = url.protocol === 'https:';
    const agent = agents[isTls ? 'https:' : 'http:'];
    const { method, body } = request;
    const length = body === null ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    const options: RequestOptions = { method, agent, headers: { ...request.headers, ...length } };
    const sent = isTls ? httpsRequest(url, options) : httpRequest(url, options);
    return new Promise((resolve, reject) => {
      let head: Omit<ExchangeAnswer, 'body'> | null = null;
      const end = (): void => {
        clearTimeout(deadline);
        request.signal?.removeEventListener('abort', onAbort);
      };
      /** The status decides: whatever goes wrong once it has come only costs the words. */
      const broken = (error: unknown): void => {
        end();
        if (head) resolve({ ...head, body: null });
        else reject(error instanceof Error ? error : new Error('the request was given up'));
      };
      const giveUp = (error: unknown): void => {
        broken(error);
        sent.destroy();
      };
      const onAbort = (): void => giveUp(request.signal?.reason);
      const deadline = setTimeout(() => giveUp(new NoAnswerInTime()), request.timeoutMs);
      if (request.signal) {
        setMaxListeners(0, request.signal); // one signal for all requests of a run
        request.signal.addEventListener('abort', onAbort);
      }
      sent.on('error', broken);
      sent.on('response', (answer: IncomingMessage) => {
        const { statusCode: status = 0, statusMessage: statusText = '', headers } = answer;
        const whole = { status, statusText, retryAfter: headers['retry-after'] ?? null };
        head = whole;
        const chunks: Buffer[] = [];
        let size = 0;
        answer.on('data', (chunk: Buffer) => {
          chunks.push(chunk);
          size += chunk.length;
          if (size > MAX_BODY_BYTES) giveUp(null);
        });
        answer.on('error', broken);
        answer.on('end', () => {
          end();
          resolve({ ...whole, body: Buffer.concat(chunks).toString('utf8') });
        });
      });
      if (request.signal?.aborted) onAbort();
      else sent.end(body ?? undefined);
    });
  };
}
