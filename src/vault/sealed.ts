import { sameBytes } from '../core/bytes.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';

/** What a sealed item says of itself, inside the seal, so that an item in another's row is found. */
export interface About {
  readonly purpose: 'backup' | 'private-key' | 'prepared-key';
  /** null for a prepared key, which is no device's yet. */
  readonly deviceId: DeviceId | null;
  /** Of the key; null for a backup, and for a prepared key. */
  readonly generation: number | null;
  /** Of the public half, where it is known. */
  readonly fingerprint: string | null;
  /** Epoch milliseconds. */
  readonly at: number;
}

/** What a pair says of itself as long as it is no device's. */
export function preparedOf(fingerprint: string) {
  return { purpose: 'prepared-key', deviceId: null, generation: null, fingerprint } as const;
}

const MAGIC = 'photon-fleet sealed 1\n';

/**
 * The plain text that is sealed: a line that names the format, a line of JSON that says what it is, then the bytes.
 * Whoever opens an item with the `age` program alone can read it.
 */
export function envelope(about: About, bytes: Uint8Array): Buffer<ArrayBuffer> {
  const head = Buffer.from(MAGIC + JSON.stringify(about) + '\n');
  const plain = Buffer.alloc(head.length + bytes.length); // never of the pool: memory of its own, to be handed over
  plain.set(head);
  plain.set(bytes, head.length);
  return plain;
}

/**
 * Takes the bytes out, once what the item says of itself is what its row says. The key of a device may say that it was
 * prepared, before it was known for which device: its fingerprint tells that it is this row's.
 * @throws Fault VAULT_SEALED_WRONG
 */
export function unwrapEnvelope(plain: Uint8Array, expected: Omit<About, 'at'>): Buffer {
  const buffer = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  const end = buffer.indexOf('\n', MAGIC.length);
  if (!sameBytes(buffer.subarray(0, MAGIC.length), Buffer.from(MAGIC)) || end < 0) {
    throw new Fault('VAULT_SEALED_WRONG', 'a sealed item has none of our forms');
  }
  const about = parseJson(buffer.subarray(MAGIC.length, end).toString());
  const wasPrepared = about['purpose'] === 'prepared-key' && expected.purpose === 'private-key';
  const row = wasPrepared && expected.fingerprint !== null ? preparedOf(expected.fingerprint) : expected;
  for (const name of ['purpose', 'deviceId', 'generation', 'fingerprint'] as const) {
    if (about[name] !== row[name]) {
      throw new Fault('VAULT_SEALED_WRONG', `${nameOf(expected)} is another one's (${name})`);
    }
  }
  return buffer.subarray(end + 1);
}

function parseJson(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new Fault('VAULT_SEALED_WRONG', 'a sealed item does not say what it is');
}

/** For messages. */
export function nameOf({ deviceId }: Pick<About, 'deviceId'>): string {
  return deviceId === null ? 'a prepared key pair' : `a sealed item of device ${deviceId}`;
}
