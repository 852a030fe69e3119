import type { IncomingMessage, ServerResponse } from 'node:http';
import { parseDeviceId, type DeviceId } from '../core/device-id.ts';

const MAX_BODY_BYTES = 65_536;

/** Which part of the API a request is for. */
export type Route =
  | { readonly kind: 'provision' | 'device' | 'name'; readonly id: string; readonly device: DeviceId | null }
  | { readonly kind: 'claim'; readonly product: string | null; readonly device: null }
  | { readonly kind: 'product'; readonly product: string; readonly device: null }
  | { readonly kind: 'sim-keys' | 'none'; readonly device: null };

export function routeOf(method: string, path: string): Route {
  const provision = /^\/v1\/provisioning\/([^/]+)$/.exec(path)?.[1];
  if (provision !== undefined && method === 'POST') {
    return { kind: 'provision', id: provision, device: parseDeviceId(provision) };
  }
  const device = /^\/v1\/devices\/([^/]+)$/.exec(path)?.[1];
  if (device !== undefined && (method === 'GET' || method === 'PUT')) {
    return { kind: method === 'GET' ? 'device' : 'name', id: device, device: parseDeviceId(device) };
  }
  if (path === '/v1/device_claims' && method === 'POST') return { kind: 'claim', product: null, device: null };
  const [, product, part] = /^\/v1\/products\/([^/]+)\/(device_claims|devices)$/.exec(path) ?? [];
  if (product !== undefined && method === 'POST') {
    return { kind: part === 'devices' ? 'product' : 'claim', product: decodeURIComponent(product), device: null };
  }
  if (path === '/v1/sim/keys' && method === 'GET') return { kind: 'sim-keys', device: null };
  return { kind: 'none', device: null };
}

/** The fields of a JSON or form body; null: it can't be read; 'too-long': over 64 KiB. */
export async function readFields(request: IncomingMessage): Promise<Map<string, string> | null | 'too-long'> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk as Buffer); // read to its end all the same, or nobody hears the answer
  }
  if (size > MAX_BODY_BYTES) return 'too-long';
  const text = Buffer.concat(chunks).toString('utf8');
  if ((request.headers['content-type'] ?? '').includes('application/x-www-form-urlencoded')) {
    return new Map(new URLSearchParams(text));
  }
  try {
    const data: unknown = JSON.parse(text === '' ? '{}' : text);
    if (typeof data !== 'object' || data === null || Array.isArray(data)) return null;
    return new Map(
      Object.entries(data).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]),
    );
  } catch {
    return null;
  }
}

/** The token of `Authorization: Bearer …`, or null. */
export function bearerOf(request: IncomingMessage): string | null {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization?.trim() ?? '')?.[1] ?? null;
}

export function answerJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers });
  response.end(text);
}

export function answerHtml(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-type': 'text/html' });
  response.end(
    `<!doctype html><html><head><title>${status}</title></head><body><h1>${status}</h1><hr>proxy</body></html>\n`,
  );
}

/** The first half of the head of a 200, and then a reset. */
export function answerHalf(response: ServerResponse): void {
  const { socket } = response;
  socket?.write('HTTP/1.1 200 OK\r\ncontent-type: applic', () => socket.resetAndDestroy());
}

/** A 200 whose body comes in pieces. @param pause waits for a part of the whole time */
export async function answerSlowly(
  response: ServerResponse,
  body: object,
  pause: (part: number) => Promise<void>,
): Promise<void> {
  const text = JSON.stringify(body);
  const pieces = 10;
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).flushHeaders();
  for (let n = 0; n < pieces && !response.destroyed; n += 1) {
    await pause(1 / pieces);
    const piece = text.slice((text.length * n) / pieces, (text.length * (n + 1)) / pieces);
    if (piece !== '') response.write(piece);
  }
  response.end();
}
