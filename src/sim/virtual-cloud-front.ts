import type { ServerResponse } from 'node:http';
import type { Clock } from '../core/clock.ts';
import type { OneFault } from './virtual-cloud-faults.ts';
import { answerHalf, answerHtml, answerJson, answerSlowly } from './virtual-cloud-requests.ts';

/** What stands before the API, as a proxy does: neither token nor key is looked at. @returns whether that was all */
export function isInFront(fault: OneFault, response: ServerResponse, clock: Clock): boolean {
  switch (fault.kind) {
    case 'hang':
      return true; // until the client or close() cuts the connection
    case 'status':
      answerJson(response, fault.status, { ok: false, error: `virtual fault: ${fault.status}` });
      return true;
    case 'html':
      answerHtml(response, fault.status);
      return true;
    case 'empty':
      if (fault.status < 300) return false;
      response.writeHead(fault.status).end();
      return true;
    case 'retry-after':
    case 'retry-after-date': {
      const { kind, seconds } = fault;
      const after = kind === 'retry-after' ? `${seconds}` : new Date(clock.now() + seconds * 1000).toUTCString();
      answerJson(response, 429, { error: 'too many requests' }, { 'retry-after': after });
      return true;
    }
    case 'redirect':
      response.writeHead(302, { location: 'http://127.0.0.1:9/elsewhere' }).end();
      return true;
    case 'down':
    case 'late':
    case 'apply-late':
    case 'slow':
    case 'lost':
    case 'reset':
    case 'refuse-after-store':
      return false;
  }
}

/** Does what was asked for, and answers, as far as the fault lets it. */
export async function carryOut(
  fault: OneFault | null,
  response: ServerResponse,
  { clock, closing }: { readonly clock: Clock; readonly closing: AbortSignal },
  act: () => object,
): Promise<void> {
  if (fault?.kind === 'apply-late') {
    await clock.sleep(fault.ms, closing);
    if (closing.aborted) return;
  }
  const body = act();
  switch (fault?.kind) {
    case 'lost':
      response.socket?.resetAndDestroy();
      return;
    case 'reset':
      answerHalf(response);
      return;
    case 'refuse-after-store':
      answerJson(response, 400, { ok: false, error: 'the key was stored, and this says that it was not' });
      return;
    case 'empty':
      response.writeHead(fault.status).end();
      return;
    case 'slow':
      await answerSlowly(response, body, part => clock.sleep(fault.ms * part, closing));
      return;
    case 'late':
      await clock.sleep(fault.ms, closing);
      break;
    default:
  }
  answerJson(response, 200, body);
}
