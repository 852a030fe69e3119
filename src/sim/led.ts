import type { DeviceId } from '../core/device-id.ts';
import { classifyPrivateKey } from '../photon/classify-key.ts';
import type { KeyClass } from '../photon/classify-key.ts';
import { DCT, fieldOf } from '../photon/dct.ts';
import type { VirtualPhoton } from './virtual-photon.ts';

/** What a Photon's LED shows, and why it is not breathing cyan. */
export interface Led {
  readonly light: 'breathing cyan' | 'blinking cyan' | 'red burst' | 'orange burst' | 'blinking yellow' | 'dark';
  readonly why: string | null;
}

/** As much of a cloud as a device meets: its server key (SPKI DER), and which key it was told for a device. */
export interface CloudAsMet {
  readonly serverKey: Uint8Array;
  currentFingerprint(id: DeviceId): string | null;
}

const SERVER_KEY_BYTES = 294;

/**
 * What the LED of a device shows once it has started, with Wi-Fi and a cloud that answers: its system parts decide whether
 * it runs at all, its server key whom it encrypts to, its own key whether the cloud knows it.
 */
export function ledOf(photon: VirtualPhoton, cloud: CloudAsMet): Led {
  const ill = bootLed(photon);
  if (ill) return ill;
  const dct = photon.dct();
  const server = fieldOf(dct, DCT.SERVER_PUBLIC_KEY);
  // A blank one: the firmware uses the key built into it, which is the cloud's own.
  if (server[0] !== 0xff && !Buffer.from(server.subarray(0, SERVER_KEY_BYTES)).equals(cloud.serverKey)) {
    return { light: 'orange burst', why: 'the server key on it is not the cloud’s' };
  }
  const { classification, publicKey } = classifyPrivateKey(fieldOf(dct, DCT.DEVICE_PRIVATE_KEY));
  const known = cloud.currentFingerprint(photon.deviceId);
  if (classification === 'blank') {
    if (known === null) return { light: 'breathing cyan', why: null }; // it makes a key, and the cloud takes the first
    return { light: 'red burst', why: 'it makes a key by itself, and the cloud has another' };
  }
  const unread = keyLed(classification);
  if (unread) return unread;
  if (known !== null && known !== publicKey?.fingerprint)
    return { light: 'red burst', why: 'the cloud has another key' };
  return { light: 'breathing cyan', why: null };
}

/** null where its system parts let it run. */
export function bootLed({ bootsInto }: Pick<VirtualPhoton, 'bootsInto'>): Led | null {
  if (bootsInto === 'dead') return { light: 'dark', why: 'no firmware that starts' };
  return bootsInto === 'dfu' ? { light: 'blinking yellow', why: 'a system part is broken' } : null;
}

/** null where its firmware reads its key, or makes one. */
export function keyLed(classification: KeyClass): Led | null {
  if (classification === 'readable' || classification === 'blank') return null;
  return { light: 'red burst', why: `its firmware can’t read its key (${classification})` };
}
