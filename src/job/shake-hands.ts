import type { DeviceId } from '../core/device-id.ts';
import type { Prover } from '../core/prover.ts';
import type { KeyPair } from '../keys/make-key-pair.ts';
import { helloFor, proofOf, serverKeyIn } from '../photon/handshake.ts';
import type { ServerOnDevice } from './server-on-device.ts';

/** Which key is wrong: the server's on the device, the device's at the cloud, or one of the two. */
export type WrongKey = 'server-key' | 'device-key' | 'either';

export type Proof =
  | { readonly kind: 'proven' }
  | { readonly kind: 'refused'; readonly wrong: WrongKey }
  | { readonly kind: 'untried'; readonly reason: string };

/** What a server says that closes without a word: it could not read what it was sent, or knows another key. */
const CLOSED: Readonly<Record<'same' | 'other' | 'unknown', WrongKey>> = {
  same: 'device-key',
  other: 'server-key',
  unknown: 'either',
};

export interface Hands {
  readonly deviceId: DeviceId;
  /** What lies on the device. */
  readonly server: Extract<ServerOnDevice, { kind: 'known' }>;
  readonly pair: KeyPair;
}

/** The cloud's handshake as this device would have it. */
export async function shakeHands(prover: Prover, { deviceId, server, pair }: Hands): Promise<Proof> {
  const { privateDer, spki } = pair;
  const serverKey = serverKeyIn(server.key);
  if (serverKey === null) return { kind: 'refused', wrong: 'server-key' }; // the firmware can't use it either
  const end = await prover.exchange(server.address, nonce => helloFor(nonce, { deviceId, spki, serverKey }));
  switch (end.kind) {
    case 'untried':
      return end;
    case 'closed':
      return { kind: 'refused', wrong: CLOSED[server.isExpected] };
    case 'answered': {
      const proof = proofOf(end.answer, { privateDer, serverKey });
      return proof === 'proven' ? { kind: 'proven' } : { kind: 'refused', wrong: proof };
    }
  }
}
