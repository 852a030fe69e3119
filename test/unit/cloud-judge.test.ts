import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CloudAnswer, RawAnswer } from '#src/cloud/answer.ts';
import { judgeAnswer, retryAfterMs } from '#src/cloud/judge.ts';
import { networkReason, safeReason } from '#src/cloud/reason.ts';

const NOW = Date.parse('2024-05-01T12:00:00Z');

function judge(answer: Partial<RawAnswer> & { status: number }, secrets: string[] = []): CloudAnswer {
  return judgeAnswer({ statusText: '', retryAfter: null, body: '', ...answer }, NOW, secrets);
}

function reasonFor(body: unknown, secrets: string[] = []): string {
  const answer = judge({ status: 400, body: typeof body === 'string' ? body : JSON.stringify(body) }, secrets);
  return answer.kind === 'refused' ? answer.reason : answer.kind;
}

describe('what a status means for a send', () => {
  test('is accepted, refused, unauthorized or unknown, for every status there is', () => {
    const kinds = new Map<string, number[]>();
    for (let status = 200; status < 600; status += 1) {
      const { kind } = judge({ status });
      kinds.set(kind, [...(kinds.get(kind) ?? []), status]);
    }
    const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, n) => from + n);
    expect(kinds.get('accepted')).toEqual(range(200, 300));
    expect(kinds.get('unauthorized')).toEqual([401]);
    expect(kinds.get('refused')).toEqual(range(400, 500).filter(status => ![401, 408, 429].includes(status)));
    expect(kinds.get('unknown')).toEqual([...range(300, 400), 408, 429, ...range(500, 600)]);
  });

  test('does not hang on the body: a 200 that tells of an error is accepted, a 500 that says ok is unknown', () => {
    expect(judge({ status: 200, body: '{"ok":false,"error":"no"}' })).toEqual({ kind: 'accepted', status: 200 });
    expect(judge({ status: 500, body: '{"ok":true}' })).toMatchObject({ kind: 'unknown', status: 500 });
  });
});

describe('Retry-After', () => {
  test.each([
    ['0', 0],
    ['30', 30_000],
    [' 30 ', 30_000],
    ['99999999999999999999', 86_400_000],
    ['Wed, 01 May 2024 12:01:00 GMT', 60_000],
    ['Wednesday, 01-May-24 12:01:00 GMT', 60_000],
    ['Wed, 01 May 2024 11:00:00 GMT', 0],
    ['Wed, 01 May 2044 11:00:00 GMT', 86_400_000],
    ['-5', null],
    ['1.5', null],
    ['soon', null],
    ['', null],
    [null, null],
  ])('%j is %j ms', (header, expected) => {
    expect(retryAfterMs(header, NOW)).toBe(expected);
  });

  test('belongs to an unknown answer', () => {
    expect(judge({ status: 429, retryAfter: '7' })).toMatchObject({ kind: 'unknown', retryAfterMs: 7000 });
    expect(judge({ status: 503 })).toMatchObject({ kind: 'unknown', retryAfterMs: null });
  });
});

describe('the reason of a refusal', () => {
  test.each([
    [{ error: 'Permission Denied' }, 'Permission Denied'],
    [{ error: 'invalid_token', error_description: 'It has expired.' }, 'invalid_token: It has expired.'],
    [{ error_description: 'It has expired.' }, 'It has expired.'],
    [{ errors: [{ message: 'first' }, { message: 'second' }] }, 'first'],
    [{ errors: ['just words'] }, 'just words'],
    [{ info: 'I did not like that.' }, 'I did not like that.'],
    [{ error: { nested: true } }, 'Bad Request'],
    [{ error: 42, info: '' }, 'Bad Request'],
    [{}, 'Bad Request'],
    [[], 'Bad Request'],
    ['null', 'Bad Request'],
    ['', 'Bad Request'],
    ['plain words', 'Bad Request'],
    ['<html><h1>400</h1></html>', 'Bad Request'],
    [{ error: '<html><h1>400</h1></html>' }, 'Bad Request'],
    [{ error: 'two\r\nlines\u001b[31m and \u202e more' }, 'two lines [31m and more'],
  ])('in %j is %j', (body, expected) => {
    expect(reasonFor(body)).toBe(expected);
  });

  test("is the server's own status text before the table's, and has a word for a status that nobody knows", () => {
    const reasonOf = (answer: CloudAnswer): string => ('reason' in answer ? answer.reason : '');
    expect(reasonOf(judge({ status: 418, statusText: 'No Coffee' }))).toBe('No Coffee');
    expect(reasonOf(judge({ status: 499 }))).toBe('HTTP 499');
  });

  test('never holds a token that the body repeats, not even half of one at the cut', () => {
    const token = 'abcdef0123456789';
    expect(reasonFor({ error: `token ${token} is bad` }, [token])).toBe('token [secret] is bad');
    expect(reasonFor({ error: `${'x'.repeat(190)}${token}` }, [token])).not.toContain('abc');
    expect(reasonFor(`{"error":"\\u0061bcdef0123456789"}`, [token])).toBe('[secret]');
  });

  test('of any words is one printable line of at most 200 characters without the token', () => {
    const token = fc.stringMatching(/^[!-~]{8,20}$/);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), token, (before, after, secret) => {
        const reason = safeReason(before + secret + after + secret, [secret]);
        expect(Array.from(reason).length).toBeLessThanOrEqual(200);
        expect(reason).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
        expect(reason).not.toContain(secret);
      }),
    );
  });
});

describe('the reason where no answer came', () => {
  const failed = (cause: unknown): TypeError => new TypeError('fetch failed', { cause });
  const coded = (code: string): Error => Object.assign(new Error(`${code} 127.0.0.1:9`), { code });

  test.each([
    [failed(coded('ECONNREFUSED')), 'connection refused (ECONNREFUSED)'],
    [failed(coded('ENOTFOUND')), 'no such host (ENOTFOUND)'],
    [failed(coded('CERT_HAS_EXPIRED')), "the server's certificate has expired (CERT_HAS_EXPIRED)"],
    [failed(coded('ESTRANGE')), 'ESTRANGE'],
    [failed(coded('toString')), 'toString'],
    [failed(new Error('bad port')), 'bad port'],
    ['a string', 'no answer'],
  ])('%s is %j', (thrown, expected) => {
    expect(networkReason(thrown, [])).toBe(expected);
  });
});
