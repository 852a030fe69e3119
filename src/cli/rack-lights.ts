import { wipe } from '../core/bytes.ts';
import { isLoopback } from '../core/hosts.ts';
import type { Prover } from '../core/prover.ts';
import { serverOf } from '../job/server-on-device.ts';
import { shakeHands } from '../job/shake-hands.ts';
import type { WrongKey } from '../job/shake-hands.ts';
import { canonicalPrivateDer } from '../keys/canonical.ts';
import { parsePrivateDer } from '../keys/rsa-numbers.ts';
import { classifyPrivateKey } from '../photon/classify-key.ts';
import { DCT, fieldOf } from '../photon/dct.ts';
import { bootLed, keyLed } from '../sim/led.ts';
import type { Led } from '../sim/led.ts';
import type { RackDevice } from '../sim/rack-device.ts';

const REFUSED: Readonly<Record<WrongKey, Led>> = {
  'server-key': { light: 'orange burst', why: 'the server key on it is not its server’s' },
  'device-key': { light: 'red burst', why: 'its server has another key of it' },
  either: { light: 'red burst', why: 'its server has another key of it, or the server key on it is not its server’s' },
};

/**
 * What the LED of a virtual Photon shows once it has started: it shakes hands with the server that its DCT names, with the
 * keys that lie in it, where that server is on this machine. No other is ever called.
 */
export async function startedLed({ photon, mode }: RackDevice, prover: Prover): Promise<Led> {
  const dct = photon.dct();
  const field = fieldOf(dct, DCT.DEVICE_PRIVATE_KEY);
  const { classification, publicKey } = classifyPrivateKey(field);
  const ill = bootLed({ bootsInto: mode === 'dead' ? 'dead' : photon.bootsInto }) ?? keyLed(classification);
  if (ill) return ill;
  const server = serverOf(fieldOf(dct, DCT.SERVER_PUBLIC_KEY), prover.server);
  if (server.kind === 'unknown') return connecting('it would connect to the server that is built into its firmware');
  if (!isLoopback(server.address.host)) {
    return connecting(`its server ${server.address.host} is not on this machine, and a virtual Photon calls no other`);
  }
  const key = parsePrivateDer(field);
  if (!key || !publicKey) return connecting('it would make a key by itself, which is not played');
  const pair = { ...publicKey, privateDer: canonicalPrivateDer(key.numbers) };
  try {
    const proof = await shakeHands(prover, { deviceId: photon.deviceId, server, pair });
    if (proof.kind === 'refused') return REFUSED[proof.wrong];
    return proof.kind === 'proven' ? { light: 'breathing cyan', why: null } : connecting(proof.reason);
  } finally {
    wipe(pair.privateDer);
  }
}

function connecting(why: string): Led {
  return { light: 'blinking cyan', why };
}
