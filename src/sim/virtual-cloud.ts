import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { systemClock, type Clock } from '../core/clock.ts';
import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { CloudApi } from './virtual-cloud-api.ts';
import { CloudBook, type RequestRecord, type ToldKey } from './virtual-cloud-book.ts';
import { FaultPlan, type CloudFault } from './virtual-cloud-faults.ts';

import { HandshakeServer } from './virtual-cloud-handshake.ts';
import type { HandshakeAddress, HandshakeOptions, HandshakeParts } from './virtual-cloud-handshake.ts';

export { parseCloudFault, type CloudFault } from './virtual-cloud-faults.ts';
export type { RequestRecord, ToldKey } from './virtual-cloud-book.ts';

export interface VirtualCloudOptions {
  /** 127.0.0.1 where it is left out. */
  readonly host?: string;
  /** 0, and where it is left out: any free one. */
  readonly port?: number;
  /** The one token that is taken; without it any is. */
  readonly token?: string;
  readonly faults?: readonly CloudFault[];
  /** The devices of the account, in any case; without it every ID is one. */
  readonly deviceIds?: readonly string[];
  readonly clock?: Clock;
  /** The handshake over TCP as well; `true`: on any free port of `host`. */
  readonly handshake?: boolean | HandshakeOptions;
}

/** A cloud over HTTP that keeps what it is told in memory, and can misbehave. */
export interface VirtualCloud {
  /** For `cloud.url`. */
  readonly url: string;
  readonly port: number;
  /** Where devices shake hands; null: nowhere. */
  readonly handshake: HandshakeAddress | null;
  /** Every key of a device, oldest first. */
  keysOf(id: DeviceId): readonly ToldKey[];
  /** Of the newest key; null: it was told none. */
  currentFingerprint(id: DeviceId): string | null;
  /** The name that a device was given; null: none. */
  nameOf(id: DeviceId): string | null;
  /** The product that a device was added to; null: none. */
  productOf(id: DeviceId): string | null;
  /** Every claim code that was given out, oldest first, and for which product. */
  readonly claimCodes: readonly { readonly code: string; readonly product: string | null }[];
  /** `GET /v1/devices/ID` says from now on that the device has connected, and when. */
  noteHandshake(id: DeviceId): void;
  /** Every request in the order of its coming, the first 100,000 of them; without those to `/v1/sim`. */
  readonly requests: readonly RequestRecord[];
  readonly requestCount: number;
  /** Keys of a device that are coming in or not answered yet. */
  inFlight(id: DeviceId): number;
  /** The most there ever were at once, of one device or of any. 1: never two sends for one device. */
  maxInFlight(id?: DeviceId): number;
  /** In place of those in force. Requests that have begun keep theirs; `down` cuts every connection. */
  setFaults(faults: readonly CloudFault[]): void;
  /** Cuts every connection and frees the port. May be called more than once. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** @throws Fault PORT_IN_USE; USAGE where the address can't be listened on for another reason, or an ID is none */
export async function startVirtualCloud(options: VirtualCloudOptions = {}): Promise<VirtualCloud> {
  const { host = '127.0.0.1', port = 0, clock = systemClock } = options;
  const book = new CloudBook();
  const closing = new AbortController();
  const api = new CloudApi({
    book,
    clock,
    token: options.token ?? null,
    owned: options.deviceIds ? new Set(options.deviceIds.map(ownedId)) : null,
    plan: new FaultPlan(options.faults ?? []),
    closing: closing.signal,
  });
  const server = createServer((request, response) => void api.handle(request, response));
  server.on('connection', (socket: Socket) => {
    if (api.plan.isDown) socket.resetAndDestroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', error => reject(cannotListen(error, host, port)));
    server.listen(port, host, resolve);
  });
  const bound = (server.address() as AddressInfo).port;
  const handshake = await openHandshake(options, {
    keyOnFile: id => book.keysOf(id).at(-1)?.pem ?? null,
    plan: () => api.plan,
    onHandshake: id => api.handshakes.set(id, clock.now()),
  }).catch((thrown: unknown) => {
    server.close();
    throw thrown;
  });

  const close = async (): Promise<void> => {
    closing.abort();
    const closed = new Promise<void>(resolve => server.close(() => resolve())); // closed already is fine
    server.closeAllConnections();
    await Promise.all([closed, handshake?.close()]);
  };
  return {
    url: `http://${reachable(host)}:${bound}`,
    port: bound,
    handshake: handshake?.address ?? null,
    keysOf: id => book.keysOf(id),
    currentFingerprint: id => book.keysOf(id).at(-1)?.fingerprint ?? null,
    nameOf: id => book.names.get(id) ?? null,
    productOf: id => book.products.get(id) ?? null,
    claimCodes: book.claimCodes,
    noteHandshake: id => api.handshakes.set(id, clock.now()),
    requests: book.requests,
    get requestCount() {
      return book.requestCount;
    },
    inFlight: id => book.inFlight(id),
    maxInFlight: id => book.maxInFlight(id),
    setFaults(faults) {
      api.plan = new FaultPlan(faults);
      if (api.plan.isDown) server.closeAllConnections();
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function openHandshake(
  { handshake = false, host = '127.0.0.1' }: VirtualCloudOptions,
  parts: HandshakeParts,
): Promise<HandshakeServer | null> {
  if (handshake === false) return null;
  const address = { host, port: 0, ...(handshake === true ? {} : handshake) };
  try {
    return await HandshakeServer.open(address, parts);
  } catch (thrown) {
    throw thrown instanceof Error ? cannotListen(thrown, address.host, address.port) : thrown;
  }
}

function ownedId(text: string): DeviceId {
  const id = parseDeviceId(text);
  if (id === null) throw new Fault('USAGE', `${JSON.stringify(text.slice(0, 40))} is no device ID`);
  return id;
}

function cannotListen(error: Error & { readonly code?: unknown }, host: string, port: number): Fault {
  const facts = { host, port };
  if (error.code === 'EADDRINUSE') {
    return new Fault('PORT_IN_USE', `port ${port} of ${host} is in use`, { facts, cause: error });
  }
  const why = typeof error.code === 'string' ? error.code : error.message;
  return new Fault('USAGE', `the virtual cloud can't listen on ${host}, port ${port}: ${why}`, { facts, cause: error });
}

/** How a client on this machine reaches what listens on `host`. */
function reachable(host: string): string {
  if (host === '0.0.0.0' || host === '') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
