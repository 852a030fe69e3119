import { parseServerHost } from '../core/hosts.ts';
import { DCT } from './dct.ts';

/** Port of the cloud where the DCT names none. */
export const DEFAULT_SERVER_PORT = 5683;
const KEY_BYTES = 294;
const ADDRESS_AT = DCT.SERVER_ADDRESS.offset - DCT.SERVER_PUBLIC_KEY.offset;
const PORT_AT = DCT.SERVER_PORT.offset - DCT.SERVER_PUBLIC_KEY.offset;
const MAX_DATA = DCT.SERVER_ADDRESS.length - 2;

/** What a device is told of its server. */
export interface ServerField {
  /** As it lies there; SPKI DER on a device that is well. */
  readonly key: Uint8Array;
  /** null: none that makes sense; `built-in`: blank, the firmware uses its own. */
  readonly host: string | 'built-in' | null;
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
    host: hostIn(field.subarray(ADDRESS_AT, ADDRESS_AT + DCT.SERVER_ADDRESS.length)),
    port: port === 0 || port === 0xffff ? DEFAULT_SERVER_PORT : port,
  };
}

function hostIn(block: Uint8Array): ServerField['host'] {
  const [type, length = 0] = block;
  if (type === 0xff) return 'built-in';
  if (length > MAX_DATA) return null;
  const data = Buffer.from(block.subarray(2, 2 + length));
  if (type === 0) return length === 4 ? data.join('.') : null;
  if (type !== 1) return null;
  return parseServerHost(data.toString('latin1').replace(/\0+$/, ''));
}
