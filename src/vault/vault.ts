import type { Stanza } from 'age-encryption';
import { wipe } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { envelope, unwrapEnvelope } from './sealed.ts';
import type { About } from './sealed.ts';
import { identityOf, recipientOf } from './x25519.ts';

/** Seals and opens private material in the age format (age-encryption.org/v1), so that recovery never depends on us. */
export interface Vault {
  seal(bytes: Uint8Array, about: About): Promise<Uint8Array>;
  /**
   * @throws Fault VAULT_CLOSED where nobody who is here can open it, VAULT_SEALED_WRONG where it is damaged or is not what
   * its row says
   */
  open(sealed: Uint8Array, expected: Omit<About, 'at'>): Promise<Buffer>;
}

/** Whom a vault seals to, and as whom it opens. */
export interface VaultKeys {
  /** age recipients, `age1…`; asked for each item. */
  readonly recipients: () => Promise<readonly string[]>;
  /** age identities; asked for each item. */
  readonly identities: () => Promise<readonly string[]>;
  /** Everything here is sealed to one of the identities: what they don't open is damaged, and not merely closed. */
  readonly opensAll: boolean;
  /** What helps where nobody who is here can open an item. */
  readonly closedHint?: string;
}

export function vaultWith({ recipients, identities, opensAll, closedHint }: VaultKeys): Vault {
  const recipientFor = remembered(recipientOf);
  const identityFor = remembered(identityOf);
  return {
    async seal(bytes, about) {
      const { Encrypter } = await import('age-encryption'); // not before it is needed: it is large
      const encrypter = new Encrypter();
      const sealTo = new Set(await recipients());
      if (sealTo.size === 0) throw new Fault('BUG', 'an item would be sealed to nobody');
      for (const recipient of sealTo) encrypter.addRecipient(recipientFor(recipient));
      const plain = envelope(about, bytes);
      try {
        return await encrypter.encrypt(plain);
      } finally {
        wipe(plain);
      }
    },
    async open(sealed, expected) {
      const { Decrypter } = await import('age-encryption');
      const decrypter = new Decrypter();
      const found = { fits: false };
      for (const identity of await identities()) {
        const one = identityFor(identity);
        decrypter.addIdentity({
          async unwrapFileKey(stanzas: Stanza[]) {
            const fileKey = await one.unwrapFileKey(stanzas);
            found.fits ||= fileKey !== null;
            return fileKey;
          },
        });
      }
      let plain: Uint8Array;
      try {
        plain = await decrypter.decrypt(sealed);
      } catch (cause) {
        const which = `a sealed item of device ${expected.deviceId}`;
        if (found.fits || opensAll) throw new Fault('VAULT_SEALED_WRONG', `${which} can't be opened`, { cause });
        throw new Fault('VAULT_CLOSED', `${which} is sealed to none of the identities that are here`, {
          ...(closedHint !== undefined && { hint: closedHint }),
          cause,
        });
      }
      try {
        return unwrapEnvelope(plain, expected);
      } catch (error) {
        wipe(plain);
        throw error;
      }
    },
  };
}

/** A vault that seals to, and opens with, one identity of the station (policy `local`). */
export function vaultOf({ identity, recipient }: { identity: string; recipient: string }): Vault {
  return vaultWith({
    recipients: () => Promise.resolve([recipient]),
    identities: () => Promise.resolve([identity]),
    opensAll: true,
  });
}

/** The parsing of a key costs more than its use. */
function remembered<T>(parse: (text: string) => T): (text: string) => T {
  const known = new Map<string, T>();
  return text => {
    let parsed = known.get(text);
    if (parsed === undefined) known.set(text, (parsed = parse(text)));
    return parsed;
  };
}
