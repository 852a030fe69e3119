import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { dirname, resolve } from 'node:path';
import { Fault } from '../core/errors.ts';
import { parseServerKey } from '../keys/public-key.ts';
import { DCT } from '../photon/dct.ts';
import { systemCode } from '../core/system-code.ts';

/** What a job does to the server key, host and port on a device. */
export interface ServerChange {
  /** SPKI DER of 294 bytes; `builtin` blanks the field, so that the firmware uses what is built into it. */
  readonly key: 'keep' | 'builtin' | Uint8Array;
  readonly host: string | null;
  readonly port: number | null;
}

/** As configured: `server.key`, `server.host`, `server.port`. */
export interface ServerSettings {
  /** `keep`, `builtin` or a file, its path absolute or from the working directory. */
  readonly key: string;
  readonly host: string | null;
  readonly port: number | null;
}

export interface ServerOptions {
  readonly 'server-key': string;
  readonly 'server-host'?: string | undefined;
  readonly 'server-port'?: number | undefined;
}

/**
 * Reads what a job file (and, for `config`, the configuration) says of the server.
 * @param isAll nothing else is written: then `config` has to name a change
 * @throws Fault SERVER_KEY_INVALID, CONFIG_INVALID
 */
export function serverChangeOf(
  options: ServerOptions,
  jobFile: string,
  configured: ServerSettings,
  isAll = true,
): ServerChange {
  const fromConfig = options['server-key'] === 'config';
  const key = fromConfig ? configured.key : options['server-key'];
  const change: ServerChange = {
    key: key === 'keep' || key === 'builtin' ? key : readServerKey(fromConfig ? key : resolve(dirname(jobFile), key)),
    host: options['server-host'] ?? (fromConfig ? configured.host : null),
    port: options['server-port'] ?? (fromConfig ? configured.port : null),
  };
  if (isAll && fromConfig && !changesServer(change)) {
    throw new Fault('CONFIG_INVALID', 'the job writes the configured server, and none is configured', {
      hint: 'set `server.key` (a PEM file, or `builtin`), `server.host` or `server.port` in the configuration',
    });
  }
  return change;
}

export function changesServer(change: ServerChange): boolean {
  return change.key !== 'keep' || change.host !== null || change.port !== null;
}

/** @throws Fault SERVER_KEY_INVALID */
export function readServerKey(file: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    const code = systemCode(cause);
    throw new Fault('SERVER_KEY_INVALID', `the server key ${file} can't be read (${code})`, { cause });
  }
  return parseServerKey(bytes, file);
}

/**
 * Lays the change over a DCT. With `builtin` the whole field is blank; a key's field is filled up with 0xFF as far as the
 * address block, which stays as it is unless a host is given (device-os: type 0 = four octets of IPv4, 1 = domain).
 */
export function applyServerChange(dct: Buffer, change: ServerChange): void {
  const { offset, length } = DCT.SERVER_PUBLIC_KEY;
  if (change.key === 'builtin') dct.fill(0xff, offset, offset + length);
  else if (change.key !== 'keep') {
    dct.fill(0xff, offset, DCT.SERVER_ADDRESS.offset);
    dct.set(change.key, offset);
  }
  if (change.host !== null) {
    const at = DCT.SERVER_ADDRESS.offset;
    dct.fill(0xff, at, at + DCT.SERVER_ADDRESS.length);
    if (isIPv4(change.host)) dct.set([0, 4, ...change.host.split('.').map(Number)], at);
    else dct.set([1, change.host.length, ...Buffer.from(change.host, 'ascii'), 0], at);
  }
  if (change.port !== null) dct.writeUInt16BE(change.port, DCT.SERVER_PORT.offset);
}
