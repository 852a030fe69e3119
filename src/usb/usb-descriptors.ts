import { DESCRIPTOR } from './setup-packet.ts';

/** Text of a string descriptor (UTF-16LE, no terminator); null where it is none, is empty, or can't be decoded. */
export function decodeStringDescriptor(bytes: Uint8Array): string | null {
  const length = bytes[0] ?? 0;
  if (bytes[1] !== DESCRIPTOR.string || length < 4 || length % 2 !== 0 || length > bytes.length) return null;
  try {
    return new TextDecoder('utf-16le', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(2, length));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause; // a lone surrogate
    return null;
  }
}
