import { setMaxListeners } from 'node:events';
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { NoAnswerInTime } from './reason.ts';

/*
 * One HTTP request and its answer, over node:http and connections that are kept. Node's fetch takes three times the
 * processor for the same, which a rack of devices and a long outbox pay for each send.
 */

const MAX_BODY_BYTES = 65_536;
/** An idle connection is closed long before a server would close it (many do after 5 s) beside the next request. */
const IDLE_MS = 2000;

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

/**
 * Makes one request.
 * @throws NoAnswerInTime; the signal's reason where it aborts first; what the connection failed with, with its `code`
 */
export type HttpExchange = (request: ExchangeRequest) => Promise<ExchangeAnswer>;

/** Connections are kept among the requests of one exchange; idle ones hold no process alive. */
export function httpExchange(): HttpExchange {
  const kept = { keepAlive: true, timeout: IDLE_MS };
  const agents = { 'http:': new HttpAgent(kept), 'https:': new HttpsAgent(kept) };
  return request => {
    const url = new URL(request.url);
    const isTls = url.protocol === 'https:';
    const { method, body, signal, timeoutMs } = request;
    if (signal?.aborted) return Promise.reject(asError(signal.reason));
    const options: RequestOptions = {
      method,
      agent: agents[isTls ? 'https:' : 'http:'],
      headers: {
        ...request.headers,
        'accept-encoding': 'identity', // nothing here decodes
        ...(body !== null && { 'content-length': String(Buffer.byteLength(body)) }),
      },
    };
    const sent = isTls ? httpsRequest(url, options) : httpRequest(url, options);
    return new Promise((resolve, reject) => {
      let head: Omit<ExchangeAnswer, 'body'> | null = null;
      let connected = false;
      const end = (): void => {
        clearTimeout(deadline);
        signal?.removeEventListener('abort', onAbort);
      };
      /** The status decides: whatever goes wrong once it has come only costs the words. */
      const broken = (error: unknown): void => {
        end();
        if (head) resolve({ ...head, body: null });
        else reject(asError(error));
      };
      const giveUp = (error: unknown): void => {
        broken(error);
        sent.destroy();
      };
      const onAbort = (): void => giveUp(signal?.reason);
      const deadline = setTimeout(() => giveUp(new NoAnswerInTime(timeoutMs, !connected)), timeoutMs);
      if (signal) {
        setMaxListeners(0, signal); // one signal for all requests of a run
        signal.addEventListener('abort', onAbort);
      }
      sent.on('socket', (socket: Socket) => {
        if (sent.reusedSocket || !socket.connecting) connected = true;
        else socket.once(isTls ? 'secureConnect' : 'connect', () => (connected = true));
      });
      sent.on('error', broken);
      sent.on('upgrade', (_answer, socket) => {
        socket.destroy();
        broken(new Error('it answers in another protocol'));
      });
      sent.on('close', () => {
        if (!head) broken(new Error('connection closed'));
      });
      sent.on('response', (answer: IncomingMessage) => {
        const { statusCode: status = 0, statusMessage: statusText = '', headers } = answer;
        if (status < 200) {
          giveUp(new Error('it answers in another protocol'));
          return;
        }
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
      sent.end(body ?? undefined);
    });
  };
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error('the request was given up');
}
