import { Decrypter, Encrypter } from 'age-encryption';
import { wipe } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { envelope, unwrapEnvelope } from './sealed.ts';
import type { About } from './sealed.ts';

/** Seals and opens private material in the age format (age-encryption.org/v1), so that recovery never depends on us. */
export interface Vault {
  /** The age recipient that items are sealed to, `age1…`. */
  readonly recipient: string;
  seal(bytes: Uint8Array, about: About): Promise<Uint8Array>;
  /** @throws Fault VAULT_SEALED_WRONG where it can't be opened or is not what its row says */
  open(sealed: Uint8Array, expected: Omit<About, 'at'>): Promise<Buffer>;
}

/** A vault that seals to, and opens with, one identity of the station (policy `local`). */
export function vaultOf({ identity, recipient }: { identity: string; recipient: string }): Vault {
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  const decrypter = new Decrypter();
  decrypter.addIdentity(identity);
  return {
    recipient,
    async seal(bytes, about) {
      const plain = envelope(about, bytes);
      try {
        return await encrypter.encrypt(plain);
      } finally {
        wipe(plain);
      }
    },
    async open(sealed, expected) {
      let plain: Uint8Array;
      try {
        plain = await decrypter.decrypt(sealed);
      } catch (cause) {
        throw new Fault('VAULT_SEALED_WRONG', `a sealed item of device ${expected.deviceId} can't be opened`, {
          cause,
        });
      }
      return unwrapEnvelope(plain, expected);
    },
  };
}
