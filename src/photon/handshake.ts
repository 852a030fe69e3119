import { constants, createHmac, createPrivateKey, createPublicKey, privateDecrypt, publicDecrypt } from 'node:crypto';
import { publicEncrypt, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { wipe } from '../core/bytes.ts';

/*
 * The device's side of the cloud's handshake (device-os, communication: handshake over TCP). Bytes alone, no wire:
 *
 *   server → device   nonce, 40
 *   device → server   RSA-2048 PKCS#1 v1.5 under the server key: nonce 40 ‖ device ID 12 ‖ SPKI of the device key 162
 *   server → device   RSA-1024 PKCS#1 v1.5 under the device key: 40 secret bytes; then the server's signature, 256
 *
 * The signature is type-1 padding, with no DigestInfo, over HMAC-SHA1(key = the 40 bytes, the 128-byte ciphertext).
 */
export const HANDSHAKE = {
  NONCE: 40,
  HELLO: 256,
  SECRET: 128,
  SIGNATURE: 256,
  ANSWER: 128 + 256,
  MESSAGE: 40,
} as const;

/** Nonce, ID and public key: what is encrypted in the hello. */
export const HELLO_PLAIN = { NONCE: 40, ID: 12, SPKI: 162, LENGTH: 40 + 12 + 162 } as const;

const NO_PADDING = constants.RSA_NO_PADDING;
/** SPKI of an RSA-2048 key with e = 65537: what stands round its 256 bytes of modulus. */
const SPKI_HEAD = Buffer.from('30820122300d06092a864886f70d01010105000382010f003082010a0282010100', 'hex');
const SPKI_TAIL = Buffer.from('0203010001', 'hex');

/**
 * The server key in a field of the DCT, read as the firmware reads it: the modulus from offset 33, e = 65537 without a look.
 * @param field 294 bytes at least
 * @returns null where no RSA-2048 modulus stands there: such a device can't connect
 */
export function serverKeyIn(field: Uint8Array): KeyObject | null {
  const modulus = field.subarray(SPKI_HEAD.length, SPKI_HEAD.length + 256);
  if (modulus.length < 256 || (modulus[0] ?? 0) < 0x80 || (modulus[255] ?? 0) % 2 === 0) return null;
  try {
    return createPublicKey({ key: Buffer.concat([SPKI_HEAD, modulus, SPKI_TAIL]), format: 'der', type: 'spki' });
  } catch {
    return null;
  }
}

/** @returns the 256 bytes that answer a nonce of 40 */
export function helloFor(
  nonce: Uint8Array,
  { deviceId, spki, serverKey }: { deviceId: string; spki: Uint8Array; serverKey: KeyObject },
): Buffer {
  const plain = Buffer.concat([nonce, Buffer.from(deviceId, 'hex'), spki]);
  if (plain.length !== HELLO_PLAIN.LENGTH) throw new RangeError(`a hello of ${plain.length} bytes`);
  return publicEncrypt({ key: serverKey, padding: constants.RSA_PKCS1_PADDING }, plain);
}

/**
 * `proven`: the server holds this device's public key, and the private half of the server key.
 * `device-key`: what it sent is not for this private key. `server-key`: it is signed by another server.
 */
export type HandshakeProof = 'proven' | 'device-key' | 'server-key';

/**
 * Whatever the bytes are, it neither throws nor ends early: how long it takes tells the server nothing.
 * @param answer anything; 384 bytes from a server that means it
 * @param privateDer PKCS#1 DER, RSA-1024
 */
export function proofOf(
  answer: Uint8Array,
  { privateDer, serverKey }: { privateDer: Buffer; serverKey: KeyObject },
): HandshakeProof {
  if (answer.length !== HANDSHAKE.ANSWER) return 'device-key';
  const secret = answer.subarray(0, HANDSHAKE.SECRET);
  const key = createPrivateKey({ key: privateDer, format: 'der', type: 'pkcs1' });
  const { message, isPadded } = unpadType2(rawDecrypt(key, secret, HANDSHAKE.SECRET), HANDSHAKE.MESSAGE);
  const mac = createHmac('sha1', message).update(secret).digest();
  const isSigned = timingSafeEqual(
    rawVerify(serverKey, answer.subarray(HANDSHAKE.SECRET)),
    padType1(mac, HANDSHAKE.SIGNATURE),
  );
  wipe(message, mac);
  if (!isPadded) return 'device-key';
  return isSigned ? 'proven' : 'server-key';
}

/**
 * Takes PKCS#1 v1.5 padding of type 2 (RFC 8017, 7.2.2) off a message whose length is known, without a branch on content.
 * @returns `length` bytes in any case: the message only where `isPadded`
 */
export function unpadType2(padded: Buffer, length: number): { message: Buffer; isPadded: boolean } {
  const separator = padded.length - length - 1;
  let bad = (padded[0] ?? 1) | ((padded[1] ?? 0) ^ 2) | (padded[separator] ?? 1);
  for (let i = 2; i < separator; i += 1) bad |= (((padded[i] ?? 0) - 1) >> 8) & 1; // a zero would end the padding here
  const message = Buffer.from(padded.subarray(separator + 1));
  wipe(padded);
  return { message, isPadded: bad === 0 };
}

/** PKCS#1 v1.5 padding of type 1 (RFC 8017, 9.2), round bytes without a DigestInfo. */
export function padType1(bytes: Uint8Array, length: number): Buffer {
  const padded = Buffer.alloc(length, 0xff);
  padded.set([0, 1]);
  padded[length - bytes.length - 1] = 0;
  padded.set(bytes, length - bytes.length);
  return padded;
}

/** c^d mod n, `length` bytes; ones that are no padding where c is not below n. */
export function rawDecrypt(key: KeyObject, bytes: Uint8Array, length: number): Buffer {
  try {
    return privateDecrypt({ key, padding: NO_PADDING }, bytes);
  } catch {
    return Buffer.alloc(length, 0xff);
  }
}

/** s^e mod n, 256 bytes; ones that are no padding where s is not below n. */
function rawVerify(key: KeyObject, signature: Uint8Array): Buffer {
  try {
    return publicDecrypt({ key, padding: NO_PADDING }, signature);
  } catch {
    return Buffer.alloc(HANDSHAKE.SIGNATURE, 0xff);
  }
}
