import { constants, createHmac, createPublicKey, privateEncrypt, publicEncrypt, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { HANDSHAKE, HELLO_PLAIN, padType1, rawDecrypt, unpadType2 } from '../photon/handshake.ts';

/* The server's side of the handshake that photon/handshake.ts describes. */

/** What a device said in its 256 bytes. */
export interface Hello {
  readonly nonce: Buffer;
  readonly deviceId: DeviceId;
  /** SPKI DER, 162 bytes. */
  readonly spki: Buffer;
}

/** @returns null where it is not for this key, or holds no device ID */
export function readHello(bytes: Uint8Array, serverPrivate: KeyObject): Hello | null {
  const { message, isPadded } = unpadType2(rawDecrypt(serverPrivate, bytes, HANDSHAKE.HELLO), HELLO_PLAIN.LENGTH);
  const deviceId = parseDeviceId(message.toString('hex', HELLO_PLAIN.NONCE, HELLO_PLAIN.NONCE + HELLO_PLAIN.ID));
  if (!isPadded || deviceId === null) return null;
  const spki = message.subarray(HELLO_PLAIN.NONCE + HELLO_PLAIN.ID);
  return { nonce: message.subarray(0, HELLO_PLAIN.NONCE), deviceId, spki };
}

/**
 * 384 bytes: a fresh secret for the device, and the signature.
 * @param deviceSpki the key on file
 */
export function answerHello(
  deviceSpki: Buffer,
  serverPrivate: KeyObject,
  secret: Buffer = randomBytes(HANDSHAKE.MESSAGE),
): Buffer {
  const key = createPublicKey({ key: deviceSpki, format: 'der', type: 'spki' });
  const sealed = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, secret);
  const mac = createHmac('sha1', secret).update(sealed).digest();
  const padded = padType1(mac, HANDSHAKE.SIGNATURE);
  const signature = privateEncrypt({ key: serverPrivate, padding: constants.RSA_NO_PADDING }, padded);
  return Buffer.concat([sealed, signature]);
}
