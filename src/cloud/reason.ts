const MAX_REASON_CHARS = 200;

/**
 * Somebody else's words, fit for a terminal and for the record: one line, printable, at most 200 characters, without
 * markup, and with every secret in it masked.
 */
export function safeReason(text: string, secrets: readonly string[]): string {
  let safe = text;
  // Before it is cut, or the first half of a token could stay. Longest first: one may hold another.
  for (const secret of secrets.toSorted((a, b) => b.length - a.length)) {
    if (secret !== '') safe = safe.replaceAll(secret, '[secret]');
  }
  if (/<[!/a-z]/i.test(safe)) return ''; // markup: a proxy's page in a JSON coat
  safe = safe.replace(/[\p{C}\p{Z}]+/gu, ' ').trim();
  const chars = Array.from(safe);
  return chars.length <= MAX_REASON_CHARS ? safe : `${chars.slice(0, MAX_REASON_CHARS - 1).join('')}…`;
}

const BY_CODE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the name could not be resolved',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ETIMEDOUT: 'connection timed out',
  EPIPE: 'connection closed',
  CERT_HAS_EXPIRED: "the server's certificate has expired",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the server's certificate is signed by itself",
  SELF_SIGNED_CERT_IN_CHAIN: "the server's certificate is signed by nobody known",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "the server's certificate is signed by nobody known",
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate is another host's",
};

/** Why no answer came, from what the request failed with. */
export function networkReason(thrown: unknown, secrets: readonly string[]): string {
  const causes = causesOf(thrown);
  const [code] = codesOf(causes);
  if (code === undefined) return safeReason(causes.at(-1)?.message ?? '', secrets) || 'no answer';
  const words = Object.hasOwn(BY_CODE, code) ? BY_CODE[code] : undefined;
  return safeReason(words === undefined ? code : `${words} (${code})`, secrets);
}

/** No status came in time. */
export class NoAnswerInTime extends Error {
  /** No connection had come about by then, so nothing of the request has left. */
  readonly neverLeft: boolean;

  constructor(timeoutMs: number, neverLeft: boolean) {
    super(`no answer within ${timeoutMs} ms`);
    this.neverLeft = neverLeft;
  }
}

/** Failures before a byte of the request had left: no connection, no name, no certificate to trust. */
const BEFORE_SENDING = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|.*CERT.*|.*SIGNATURE)$/;

/** Whether what the request failed with says that the request never left, so that it can't be carried out. */
export function neverLeft(thrown: unknown): boolean {
  if (thrown instanceof NoAnswerInTime) return thrown.neverLeft;
  return codesOf(causesOf(thrown)).some(code => BEFORE_SENDING.test(code));
}

/** The error and what caused it, from the outside in, as far as the fifth. */
function causesOf(thrown: unknown): Error[] {
  const causes: Error[] = [];
  for (let error = thrown; error instanceof Error && causes.length < 5; error = error.cause) causes.push(error);
  return causes;
}

function codesOf(causes: readonly Error[]): string[] {
  return causes.flatMap(error => ('code' in error && typeof error.code === 'string' ? [error.code] : []));
}
