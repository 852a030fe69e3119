import { createPublicKey } from 'node:crypto';
import { sha256Hex } from '../core/bytes.ts';
import type { DeviceId } from '../core/device-id.ts';

/** A key that the cloud was told. */
export interface ToldKey {
  /** As it came. */
  readonly pem: string;
  /** SHA-256 of the SPKI DER, lower-case hex. */
  readonly fingerprint: string;
  /** When, epoch ms. */
  readonly at: number;
  /** The request's `order`; null where it had none. */
  readonly order: string | null;
}

/** One request, for whoever asks afterwards what was sent. */
export interface RequestRecord {
  readonly at: number;
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  readonly device: DeviceId | null;
}

const MAX_RECORDS = 100_000;

/** What the cloud knows: every key of every device in order, and who asked for what. */
export class CloudBook {
  readonly requests: RequestRecord[] = [];
  requestCount = 0;
  readonly names = new Map<DeviceId, string>();
  /** The product of each device that was added to one. */
  readonly products = new Map<DeviceId, string>();
  /** Every claim code that was given out, oldest first. */
  readonly claimCodes: { readonly code: string; readonly product: string | null }[] = [];
  readonly #keys = new Map<DeviceId, ToldKey[]>();
  readonly #inFlight = new Map<DeviceId, { now: number; most: number }>();

  record(request: RequestRecord): void {
    this.requestCount += 1;
    if (this.requests.length < MAX_RECORDS) this.requests.push(request);
  }

  /** A key for this device has begun to come in. @returns what to call when its connection is done with it */
  begin(device: DeviceId): () => void {
    const flight = this.#inFlight.get(device) ?? { now: 0, most: 0 };
    this.#inFlight.set(device, flight);
    flight.now += 1;
    flight.most = Math.max(flight.most, flight.now);
    return () => {
      flight.now -= 1;
    };
  }

  inFlight(device: DeviceId): number {
    return this.#inFlight.get(device)?.now ?? 0;
  }

  /** Of one device, or the highest of all. */
  maxInFlight(device?: DeviceId): number {
    if (device !== undefined) return this.#inFlight.get(device)?.most ?? 0;
    let most = 0;
    for (const flight of this.#inFlight.values()) most = Math.max(most, flight.most);
    return most;
  }

  store(device: DeviceId, key: ToldKey): void {
    const keys = this.#keys.get(device);
    if (keys) keys.push(key);
    else this.#keys.set(device, [key]);
  }

  keysOf(device: DeviceId): readonly ToldKey[] {
    return this.#keys.get(device) ?? [];
  }

  /** For `GET /v1/sim/keys`. */
  summary(): { devices: Record<string, { fingerprint: string; publicKey: string; count: number }> } {
    const devices: Record<string, { fingerprint: string; publicKey: string; count: number }> = {};
    for (const [id, keys] of this.#keys) {
      const newest = keys.at(-1);
      if (newest) devices[id] = { fingerprint: newest.fingerprint, publicKey: newest.pem, count: keys.length };
    }
    return { devices };
  }
}

/**
 * Reads a key as the cloud wants it: SPKI PEM of an RSA-1024 key. A real server may take more with a
 * 200, and the device never connects; this one doesn't.
 * @returns its fingerprint, or what is wrong with it
 */
export function checkKey(pem: string): { readonly fingerprint: string } | { readonly wrong: string } {
  const body = /^\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*$/.exec(pem)?.[1];
  if (body === undefined) return { wrong: 'publicKey is not in PEM format (BEGIN PUBLIC KEY)' };
  const der = Buffer.from(body.replace(/\s/g, ''), 'base64');
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    if (key.asymmetricKeyType !== 'rsa') return { wrong: 'publicKey is not an RSA key' };
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    if (bits !== 1024) return { wrong: `publicKey has ${bits} bits, not 1024` };
    if (!key.export({ format: 'der', type: 'spki' }).equals(der)) return { wrong: 'publicKey is not canonical DER' };
  } catch {
    return { wrong: 'publicKey is not a key' };
  }
  return { fingerprint: sha256Hex(der) };
}
