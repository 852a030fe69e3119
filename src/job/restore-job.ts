import type { PublicKey } from '../keys/public-key.ts';
import { parsePrivateDer } from '../keys/rsa-numbers.ts';
import { classifyPrivateKey } from '../photon/classify-key.ts';
import type { KeyClass } from '../photon/classify-key.ts';
import { DCT, fieldOf } from '../photon/dct.ts';
import type { Job } from './job.ts';

/** A backup's keys, as they are to be on the device again. */
export interface RestoredKeys {
  readonly backupId: number;
  /** The private and the public key's field side by side, byte for byte; wipe it after use. */
  readonly block: Buffer;
  /** What the cloud is told; null where the private key's field holds none that can be read. */
  readonly publicKey: PublicKey | null;
  /** Of its modulus. */
  readonly bits: number;
  /** Where the device can't connect with what is put back. */
  readonly warning: { readonly message: string; readonly hint: string } | null;
}

/**
 * The job that puts a backup's keys back, whatever they are; the rest of the device stays as it is. It has no file: its
 * bytes come out of the vault, and stay in memory.
 * @param dct bytes 0..8390 of the backup
 */
export function restoreJob(backupId: number, dct: Uint8Array): Job {
  const { offset } = DCT.DEVICE_PRIVATE_KEY;
  const end = DCT.DEVICE_PUBLIC_KEY.offset + DCT.DEVICE_PUBLIC_KEY.length;
  const field = fieldOf(dct, DCT.DEVICE_PRIVATE_KEY);
  const { classification, publicKey } = classifyPrivateKey(field);
  const restore: RestoredKeys = {
    backupId,
    block: Buffer.from(dct.subarray(offset, end)),
    publicKey,
    bits: parsePrivateDer(field)?.numbers.n.toString(2).length ?? 0,
    warning: warningOf(classification),
  };
  const sends = publicKey !== null;
  return {
    name: 'restore',
    description: 'The keys of a backup, written back, proven and sent to the cloud',
    steps: [
      { name: 'identify', options: {} },
      { name: 'preflight', options: {} },
      { name: 'backup', options: {} },
      { name: 'write', options: { 'server-key': 'keep' } },
      { name: 'verify', options: {} },
      ...(sends ? [{ name: 'send', options: {} } as const] : []),
      { name: 'leave', options: {} },
    ],
    plan: {
      newKey: true,
      restore,
      server: { key: 'keep', host: null, port: null },
      writes: true,
      sends,
      leaves: true,
    },
  };
}

function warningOf(classification: KeyClass): RestoredKeys['warning'] {
  switch (classification) {
    case 'readable':
      return null;
    case 'misread':
    case 'pkcs8':
      return {
        message: `the firmware can't read the key of this backup (${classification}): the device can't connect with it`,
        hint: 'put another backup back, or give it a fresh key with `photon-fleet run`',
      };
    case 'truncated':
    case 'blank':
    case 'zeros':
    case 'other':
      return {
        message: `this backup holds no key (${classification}): the cloud is sent none and keeps the one that it has, and the device can't connect`,
        hint: 'put another backup back, or give it a fresh key with `photon-fleet run`',
      };
  }
}
