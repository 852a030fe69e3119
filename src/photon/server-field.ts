import { parseServerHost } from '../core/hosts.ts';
import { DCT, fieldOf } from './dct.ts';

/** Port of the cloud where the DCT names none. */
export const DEFAULT_SERVER_PORT = 5683;
const KEY_BYTES = 294;
const ADDRESS_AT = DCT.SERVER_ADDRESS.offset - DCT.SERVER_PUBLIC_KEY.offset;
const PORT_AT = DCT.SERVER_PORT.offset - DCT.SERVER_PUBLIC_KEY.offset;
const MAX_DATA = DCT.SERVER_ADDRESS.length - 2;

/** `blank`: the firmware uses the address that is built into it. */
export type AddressBlock = { readonly kind: 'host'; readonly host: string } | { readonly kind: 'blank' | 'senseless' };

/** What a device is told of its server. */
export interface ServerField {
  /** As it lies there; SPKI DER on a device that is well. */
  readonly key: Uint8Array;
  readonly address: AddressBlock;
  readonly port: number;
}

/**
 * Reads the server key's field (device-os, dct.h: at +384 type, length, data; at +450 the port, big endian).
 * @param field its 768 bytes
 * @returns null where its first byte is 0xFF: the firmware uses the key and the address that are built into it
 */
export function readServerField(field: Uint8Array): ServerField | null {
  if (field.length !== DCT.SERVER_PUBLIC_KEY.length) throw new RangeError('not the server key’s field');
  if (field[0] === 0xff) return null;
  const port = new DataView(field.buffer, field.byteOffset).getUint16(PORT_AT);
  return {
    key: field.subarray(0, KEY_BYTES),
    address: addressIn(field.subarray(ADDRESS_AT, ADDRESS_AT + DCT.SERVER_ADDRESS.length)),
    port: port === 0 || port === 0xffff ? DEFAULT_SERVER_PORT : port,
  };
}

function addressIn(block: Uint8Array): AddressBlock {
  const [type, length = 0] = block;
  if (type === 0xff) return { kind: 'blank' };
  const data = Buffer.from(block.subarray(2, 2 + length));
  const isWhole = length <= MAX_DATA;
  const domain = isWhole && type === 1 ? parseServerHost(data.toString('latin1').replace(/\0+$/, '')) : null;
  const host = isWhole && type === 0 && length === 4 ? data.join('.') : domain;
  return host === null ? { kind: 'senseless' } : { kind: 'host', host };
}

/** The same, out of bytes 0..8390 of a DCT, with nulls where the firmware uses what is built into it. */
export function serverIn(dct: Uint8Array): {
  readonly key: Uint8Array | null;
  readonly host: string | null;
  readonly port: number;
} {
  const field = readServerField(fieldOf(dct, DCT.SERVER_PUBLIC_KEY));
  const host = field?.address.kind === 'host' ? field.address.host : null;
  return { key: field?.key ?? null, host, port: field?.port ?? DEFAULT_SERVER_PORT };
}
