import { SERVER_KEY_BYTES } from '../keys/public-key.ts';
import { DCT, fieldOf } from './dct.ts';

/** The server that a device trusts, as its DCT has it. */
export interface ServerField {
  /** The bytes where the SPKI DER lies, unchecked; null where the field is blank: the firmware uses the one built into it. */
  readonly key: Uint8Array | null;
  /** null where there is none, or none that can be read: the firmware uses the one built into it. */
  readonly host: string | null;
  /** 5683 where the DCT names none. */
  readonly port: number;
}

const DEFAULT_PORT = 5683;

/** @param dct bytes 0..8390 (device-os, hal: the address block is type 0 = IPv4 or 1 = domain, length, data) */
export function readServerField(dct: Uint8Array): ServerField {
  const field = fieldOf(dct, DCT.SERVER_PUBLIC_KEY);
  const [type, length = 0, ...data] = fieldOf(dct, DCT.SERVER_ADDRESS);
  const [high = 0xff, low = 0xff] = fieldOf(dct, DCT.SERVER_PORT);
  const port = high * 256 + low;
  const name = Buffer.from(data.slice(0, length)).toString('latin1');
  const isDomain = type === 1 && length > 0 && length <= 63 && /^[A-Za-z0-9.-]+$/.test(name);
  return {
    key: field[0] === 0xff ? null : field.subarray(0, SERVER_KEY_BYTES),
    host: type === 0 && length === 4 ? data.slice(0, 4).join('.') : isDomain ? name : null,
    port: port === 0 || port === 0xffff ? DEFAULT_PORT : port,
  };
}
