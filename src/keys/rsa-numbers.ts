import type forge from 'node-forge';
import { asn1 } from './forge.ts';

/** The numbers of an RSA private key, RFC 8017 A.1.2. */
export interface RsaPrivateNumbers {
  readonly n: bigint;
  readonly e: bigint;
  readonly d: bigint;
  readonly p: bigint;
  readonly q: bigint;
  readonly dp: bigint;
  readonly dq: bigint;
  readonly qp: bigint;
}

/** `bytes` big endian. */
export function bigintFromBytes(bytes: Uint8Array): bigint {
  return bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

/** Big endian in exactly `length` bytes. @throws RangeError where it does not fit. */
export function bigintToBytes(value: bigint, length: number): Buffer {
  const hex = value.toString(16).padStart(length * 2, '0');
  if (value < 0n || hex.length > length * 2) throw new RangeError(`the number does not fit into ${length} bytes`);
  return Buffer.from(hex, 'hex');
}

/** Whether the numbers belong together: N = P·Q, and D undoes E. A key that fails this can never sign in. */
export function isConsistent(key: RsaPrivateNumbers): boolean {
  if (key.p < 3n || key.q < 3n || key.n !== key.p * key.q) return false;
  return (
    (key.e * key.d) % (key.p - 1n) === 1n &&
    (key.e * key.d) % (key.q - 1n) === 1n &&
    key.dp === key.d % (key.p - 1n) &&
    key.dq === key.d % (key.q - 1n) &&
    (key.q * key.qp) % key.p === 1n
  );
}

/** The two ways in which a private key is wrapped. */
export interface ParsedPrivateKey {
  readonly form: 'pkcs1' | 'pkcs8';
  readonly numbers: RsaPrivateNumbers;
}

/**
 * Reads an RSA private key as any ordinary parser of DER would: PKCS#1 or PKCS#8, whatever follows it ignored.
 * @returns null where there is none, or its numbers do not belong together
 */
export function parsePrivateDer(bytes: Uint8Array): ParsedPrivateKey | null {
  try {
    const items = sequence(asn1.fromDer(exactly(bytes), true));
    const wrapped = items?.[2];
    if (wrapped?.type === asn1.Type.OCTETSTRING && typeof wrapped.value === 'string') {
      return parsed('pkcs8', sequence(asn1.fromDer(wrapped.value, true)));
    }
    return parsed('pkcs1', items);
  } catch {
    return null; // forge tells of bad DER by throwing; that it is none is the answer here
  }
}

/** The first DER item of `bytes` alone, as the binary string that forge takes; a field of the DCT goes on behind it. */
function exactly(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const total = bytes.length > 4 && bytes[1] === 0x82 ? 4 + view.getUint16(2) : bytes.length;
  return Buffer.from(bytes.subarray(0, total)).toString('binary');
}

function sequence(node: forge.asn1.Asn1): forge.asn1.Asn1[] | null {
  return node.type === asn1.Type.SEQUENCE && Array.isArray(node.value) ? node.value : null;
}

function parsed(form: ParsedPrivateKey['form'], items: forge.asn1.Asn1[] | null): ParsedPrivateKey | null {
  if (!items || items.length < 9) return null;
  const integers: bigint[] = [];
  for (const item of items.slice(1, 9)) {
    if (item.type !== asn1.Type.INTEGER || typeof item.value !== 'string') return null;
    integers.push(bigintFromBytes(Buffer.from(item.value, 'binary')));
  }
  const [n = 0n, e = 0n, d = 0n, p = 0n, q = 0n, dp = 0n, dq = 0n, qp = 0n] = integers;
  const numbers = { n, e, d, p, q, dp, dq, qp };
  return isConsistent(numbers) ? { form, numbers } : null;
}
