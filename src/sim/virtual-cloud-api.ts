import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { timestamp, type Clock } from '../core/clock.ts';
import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { checkKey, type CloudBook } from './virtual-cloud-book.ts';
import type { FaultPlan, OneFault } from './virtual-cloud-faults.ts';
import {
  answerHalf,
  answerHtml,
  answerJson,
  answerSlowly,
  bearerOf,
  readFields,
  routeOf,
} from './virtual-cloud-requests.ts';
import { isLoopback } from '../core/hosts.ts';

export interface ApiParts {
  readonly book: CloudBook;
  readonly clock: Clock;
  readonly token: string | null;
  readonly owned: ReadonlySet<DeviceId> | null;
  readonly plan: FaultPlan;
  /** Ends what still waits. */
  readonly closing: AbortSignal;
}

type Fields = Map<string, string> | null | 'too-long';

/** The three endpoints that a provisioner uses, and what the faults make of them. */
export class CloudApi {
  plan: FaultPlan;
  readonly handshakes = new Map<DeviceId, number>();
  readonly #parts: ApiParts;

  constructor(parts: ApiParts) {
    this.#parts = parts;
    this.plan = parts.plan;
  }

  /** Never throws: a client that has gone away is everyday. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { book, clock } = this.#parts;
    const method = request.method ?? '';
    const path = (request.url ?? '').replace(/[?#].*$/s, '');
    const route = routeOf(method, path);
    if (route.kind === 'sim-keys') {
      if (isLoopback(request.socket.remoteAddress ?? '')) answerJson(response, 200, book.summary());
      else answerJson(response, 403, { error: 'this is for the same machine only' });
      return;
    }
    book.record({ at: clock.now(), method, path, device: route.device });
    if (route.kind === 'provision' && route.device) {
      const end = once(book.begin(route.device));
      response.once('prefinish', end); // before the answer is out, since its reader may send the next one at once
      response.once('close', end);
    }
    const fault = this.plan.take(route.device);
    try {
      if (fault?.kind === 'down') {
        request.socket.resetAndDestroy();
        return;
      }
      const fields = await readFields(request);
      if (fault && isInFront(fault, response, clock)) return;
      const token = bearerOf(request);
      if (token === null || (this.#parts.token !== null && token !== this.#parts.token)) {
        answerJson(response, 401, {
          error: 'invalid_token',
          error_description: 'The access token provided is invalid.',
        });
        return;
      }
      switch (route.kind) {
        case 'provision':
          await this.#provision(route.id, fields, fault, response);
          return;
        case 'device':
          this.#device(route.id, response);
          return;
        case 'claim':
          answerJson(response, 200, { claim_code: randomBytes(48).toString('base64').slice(0, 63), device_ids: [] });
          return;
        case 'none':
          answerJson(response, 404, { ok: false, error: 'Not found' });
      }
    } catch (thrown) {
      if (request.destroyed || response.destroyed) return; // the client left in the middle
      answerJson(response, 500, { error: thrown instanceof Error ? thrown.message : 'unknown' });
    }
  }

  async #provision(id: string, fields: Fields, fault: OneFault | null, response: ServerResponse): Promise<void> {
    const { book, clock, closing } = this.#parts;
    const device = this.#ownedDevice(id, response);
    if (!device) return;
    if (fields === 'too-long') {
      answerJson(response, 413, { ok: false, error: 'the body is too long' });
      return;
    }
    const pem = fields?.get('publicKey') ?? '';
    const key = checkKey(pem);
    const wrong = wrongWith(device, fields) ?? ('wrong' in key ? key.wrong : null);
    if (wrong !== null || 'wrong' in key) {
      answerJson(response, 400, { ok: false, error: wrong });
      return;
    }
    if (fault?.kind === 'apply-late') {
      await clock.sleep(fault.ms, closing);
      if (closing.aborted) return;
    }
    book.store(device, { pem, fingerprint: key.fingerprint, at: clock.now(), order: fields?.get('order') ?? null });
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
        await answerSlowly(response, { ok: true, id: device }, part => clock.sleep(fault.ms * part, closing));
        return;
      case 'late':
        await clock.sleep(fault.ms, closing);
        break;
      default:
    }
    answerJson(response, 200, { ok: true, id: device });
  }

  #device(id: string, response: ServerResponse): void {
    const device = this.#ownedDevice(id, response);
    if (!device) return;
    const handshake = this.handshakes.get(device);
    const connected = handshake !== undefined;
    answerJson(response, 200, {
      id: device,
      platform_id: 6,
      connected,
      online: connected,
      last_handshake_at: connected ? timestamp(handshake) : null,
    });
  }

  /** Answers 404 to what is no ID, and 403 to somebody else's. */
  #ownedDevice(id: string, response: ServerResponse): DeviceId | null {
    const device = parseDeviceId(id);
    const { owned } = this.#parts;
    if (device === null) answerJson(response, 404, { ok: false, error: 'Device not found' });
    else if (owned && !owned.has(device)) answerJson(response, 403, { ok: false, error: 'Permission Denied' });
    else return device;
    return null;
  }
}

function wrongWith(device: DeviceId, fields: Map<string, string> | null): string | null {
  if (fields === null) return 'the body is neither JSON nor a form';
  if (parseDeviceId(fields.get('deviceID') ?? '') !== device) return 'deviceID is not the one of the path';
  if (!fields.has('publicKey')) return 'publicKey is missing';
  const algorithm = fields.get('algorithm') ?? 'rsa';
  return algorithm === 'rsa' ? null : 'algorithm is not rsa';
}

/** What stands before the API, as a proxy does: neither token nor key is looked at. @returns whether that was all */
function isInFront(fault: OneFault, response: ServerResponse, clock: Clock): boolean {
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

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    act();
  };
}
