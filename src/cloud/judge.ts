import { STATUS_CODES } from 'node:http';
import type { CloudAnswer, RawAnswer } from './answer.ts';
import { safeReason } from './reason.ts';

const DAY_MS = 86_400_000;

/**
 * What an answer means for a send. By the status alone: bodies are empty, or a proxy's, often enough.
 * @param nowMs epoch ms, for a Retry-After that is a date
 * @param secrets what must not be in the reason
 */
export function judgeAnswer(answer: RawAnswer, nowMs: number, secrets: readonly string[]): CloudAnswer {
  const { status } = answer;
  if (status >= 200 && status < 300) return { kind: 'accepted', status };
  const reason = reasonOf(answer, secrets);
  if (status === 401) return { kind: 'unauthorized', status, reason };
  if (status >= 400 && status < 500 && status !== 408 && status !== 429) return { kind: 'refused', status, reason };
  // A gateway that gave up on the server behind it (504) says nothing of what that one still does.
  const mayLandLate = status === 504;
  return { kind: 'unknown', status, reason, retryAfterMs: retryAfterMs(answer.retryAfter, nowMs), mayLandLate };
}

/** RFC 9110, 10.2.3: seconds or an HTTP date; at most a day. null where there is none, or none that can be read. */
export function retryAfterMs(header: string | null, nowMs: number): number | null {
  const text = header?.trim() ?? '';
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, DAY_MS);
  // Not whatever Date.parse takes: it makes a year of "-5".
  const at = /^[A-Za-z]{3,9},? .*\d{2}:\d{2}:\d{2}/.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(at) ? null : Math.min(Math.max(at - nowMs, 0), DAY_MS);
}

function reasonOf({ status, statusText, body }: RawAnswer, secrets: readonly string[]): string {
  const said = safeReason(wordsOf(body), secrets);
  if (said !== '') return said;
  return safeReason(statusText, secrets) || (STATUS_CODES[status] ?? `HTTP ${status}`);
}

/** What a JSON body says went wrong, in the forms that Particle's cloud and spark-server have; anything else is mute. */
function wordsOf(body: string): string {
  let data: unknown;
  try {
    data = JSON.parse(body);
  } catch {
    return ''; // HTML of a proxy, or cut off: never quoted
  }
  const error = textIn(data, 'error');
  const description = textIn(data, 'error_description');
  if (error !== '' || description !== '') return [error, description].filter(text => text !== '').join(': ');
  const errors = memberOf(data, 'errors');
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  return textIn(first, 'message') || (typeof first === 'string' ? first : '') || textIn(data, 'info');
}

function memberOf(data: unknown, name: string): unknown {
  return typeof data === 'object' && data !== null && Object.hasOwn(data, name)
    ? (data as Record<string, unknown>)[name]
    : undefined;
}

function textIn(data: unknown, name: string): string {
  const value = memberOf(data, name);
  return typeof value === 'string' ? value.trim() : '';
}
