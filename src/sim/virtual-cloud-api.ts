import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { timestamp, type Clock } from '../core/clock.ts';
import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { checkKey, type CloudBook } from './virtual-cloud-book.ts';
import type { FaultPlan, OneFault, RequestKind } from './virtual-cloud-faults.ts';
import { carryOut, isInFront } from './virtual-cloud-front.ts';
import { answerJson, bearerOf, readFields, routeOf, type Route } from './virtual-cloud-requests.ts';
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

/** What each route is to the faults. */
const ABOUT: Readonly<Record<Route['kind'], RequestKind | null>> = {
  provision: 'keys',
  claim: 'claims',
  product: 'products',
  name: 'names',
  device: 'devices',
  'sim-keys': null,
  none: null,
};

/** The endpoints that a provisioner uses, and what the faults make of them. */
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
    if ((route.kind === 'provision' || route.kind === 'name') && route.device) this.#begin(route.device, response);
    // A product's request names its device in its body; its faults are told by that.
    const early = route.kind === 'product' ? null : this.plan.take(route.device, ABOUT[route.kind]);
    try {
      if (early?.kind === 'down') {
        request.socket.resetAndDestroy();
        return;
      }
      const fields = await readFields(request);
      let fault = early;
      if (route.kind === 'product') {
        const device = fields instanceof Map ? parseDeviceId(fields.get('id') ?? '') : null;
        if (device) this.#begin(device, response);
        fault = this.plan.take(device, ABOUT[route.kind]);
      }
      if (fault?.kind === 'down') {
        request.socket.resetAndDestroy();
        return;
      }
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
        case 'name':
          await this.#name(route.id, fields, fault, response);
          return;
        case 'product':
          await this.#addToProduct(route.product, fields, fault, response);
          return;
        case 'claim':
          await this.#claim(route.product, fault, response);
          return;
        case 'none':
          answerJson(response, 404, { ok: false, error: 'Not found' });
      }
    } catch (thrown) {
      if (request.destroyed || response.destroyed) return; // the client left in the middle
      answerJson(response, 500, { error: thrown instanceof Error ? thrown.message : 'unknown' });
    }
  }

  /** Counted until its answer is about to be out: whoever reads that may send the next one at once. */
  #begin(device: DeviceId, response: ServerResponse): void {
    const end = once(this.#parts.book.begin(device));
    response.once('prefinish', end);
    response.once('close', end);
  }

  async #provision(id: string, fields: Fields, fault: OneFault | null, response: ServerResponse): Promise<void> {
    const { book, clock } = this.#parts;
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
    await carryOut(fault, response, this.#parts, () => {
      book.store(device, { pem, fingerprint: key.fingerprint, at: clock.now(), order: fields?.get('order') ?? null });
      return { ok: true, id: device };
    });
  }

  #device(id: string, response: ServerResponse): void {
    const { book } = this.#parts;
    const device = this.#ownedDevice(id, response);
    if (!device) return;
    const handshake = this.handshakes.get(device);
    const connected = handshake !== undefined;
    answerJson(response, 200, {
      id: device,
      name: book.names.get(device) ?? null,
      platform_id: 6,
      product_id: book.products.get(device) ?? null,
      connected,
      online: connected,
      last_handshake_at: connected ? timestamp(handshake) : null,
    });
  }

  async #name(id: string, fields: Fields, fault: OneFault | null, response: ServerResponse): Promise<void> {
    const device = this.#ownedDevice(id, response);
    if (!device) return;
    const name = fields instanceof Map ? fields.get('name') : undefined;
    if (name === undefined || name === '') {
      answerJson(response, 400, { ok: false, error: 'name is missing' });
      return;
    }
    await carryOut(fault, response, this.#parts, () => {
      this.#parts.book.names.set(device, name);
      return { id: device, name };
    });
  }

  /** An ID that is none, or not of this account, is told as such, with 200. */
  async #addToProduct(
    product: string,
    fields: Fields,
    fault: OneFault | null,
    response: ServerResponse,
  ): Promise<void> {
    const { book, owned } = this.#parts;
    const id = fields instanceof Map ? (fields.get('id') ?? '') : '';
    const device = parseDeviceId(id);
    if (device === null || owned?.has(device) === false) {
      answerJson(response, 200, { updated: 0, nonmemberDeviceIds: [], invalidDeviceIds: [id] });
      return;
    }
    await carryOut(fault, response, this.#parts, () => {
      book.products.set(device, product);
      return { updated: 1, nonmemberDeviceIds: [], invalidDeviceIds: [] };
    });
  }

  async #claim(product: string | null, fault: OneFault | null, response: ServerResponse): Promise<void> {
    await carryOut(fault, response, this.#parts, () => {
      const code = randomBytes(48).toString('base64').slice(0, 63);
      this.#parts.book.claimCodes.push({ code, product });
      return { claim_code: code, device_ids: [] };
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

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    act();
  };
}
