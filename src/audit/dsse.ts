import { sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { sha256Hex } from '../core/bytes.ts';
import { rawPublic } from './signed-note.ts';

/** What was signed: DSSE v1's pre-authentication encoding (github.com/secure-systems-lab/dsse, protocol.md). */
function preAuthentication(type: string, payload: Uint8Array): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/** An in-toto Statement in a DSSE envelope, as one line of JSON. `keyid` is the SHA-256 of the raw public key. */
export function signStatement(statement: object, key: KeyObject): string {
  const payloadType = 'application/vnd.in-toto+json';
  const payload = Buffer.from(JSON.stringify(statement));
  const signature = sign(null, preAuthentication(payloadType, payload), key);
  return JSON.stringify({
    payloadType,
    payload: payload.toString('base64'),
    signatures: [{ keyid: sha256Hex(rawPublic(key)), sig: signature.toString('base64') }],
  });
}
