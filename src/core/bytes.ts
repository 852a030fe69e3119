import { hash } from 'node:crypto';

/** SHA-256 of `bytes`, lower-case hex. */
export function sha256Hex(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex');
}

/** Whether two byte strings are the same, in length and in every byte. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Index of the first byte that differs, or -1. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) if (a[i] !== b[i]) return i;
  return a.length === b.length ? -1 : length;
}

/** Whether every byte of `bytes` is `value`; true of an empty one. */
export function allBytesAre(bytes: Uint8Array, value: number): boolean {
  return bytes.every(byte => byte === value);
}

/** Overwrites key material in place, so that it does not wait in memory for the collector. */
export function wipe(...buffers: (Uint8Array | undefined)[]): void {
  for (const buffer of buffers) buffer?.fill(0);
}

/** `0x08020000` style, at least `digits` long. */
export function hexAddress(value: number, digits = 8): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
