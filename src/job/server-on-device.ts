import { sameBytes } from '../core/bytes.ts';
import type { Prover, ServerAddress } from '../core/prover.ts';
import { DEFAULT_SERVER_PORT, readServerField } from '../photon/server-field.ts';

/** The server that a device will connect to. */
export type ServerOnDevice =
  | {
      readonly kind: 'known';
      readonly key: Uint8Array;
      readonly address: ServerAddress;
      /** Whether the key is the configured one; `unknown` where none is configured. */
      readonly isExpected: 'same' | 'other' | 'unknown';
    }
  | { readonly kind: 'unknown'; readonly reason: string };

/**
 * Where the firmware uses what is built into it, the configuration stands in for that.
 * @param field the 768 bytes of the server key's field
 */
export function serverOf(field: Uint8Array, configured: Prover['server']): ServerOnDevice {
  const there = readServerField(field);
  if (there === null) {
    const { key, host, port } = configured;
    if (key === null || host === null) {
      const reason = 'the firmware uses the server that is built into it, and `server.key` and `server.host` name none';
      return { kind: 'unknown', reason };
    }
    return { kind: 'known', key, address: { host, port: port ?? DEFAULT_SERVER_PORT }, isExpected: 'same' };
  }
  const { address } = there;
  const host = address.kind === 'host' ? address.host : address.kind === 'blank' ? configured.host : null;
  if (host === null) {
    const reason =
      address.kind === 'senseless'
        ? 'the address of its server makes no sense'
        : 'the firmware uses the address that is built into it, and `server.host` names none';
    return { kind: 'unknown', reason };
  }
  const isExpected = configured.key === null ? 'unknown' : sameBytes(configured.key, there.key) ? 'same' : 'other';
  return { kind: 'known', key: there.key, address: { host, port: there.port }, isExpected };
}
