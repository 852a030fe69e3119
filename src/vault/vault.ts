import { wipe } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { envelope, nameOf, unwrapEnvelope } from './sealed.ts';
import type { About } from './sealed.ts';
import { localSealer } from './sealer.ts';
import type { Sealer } from './sealer.ts';

/** Seals and opens private material in the age format (age-encryption.org/v1), so that recovery never depends on us. */
export interface Vault {
  seal(bytes: Uint8Array, about: About): Promise<Uint8Array>;
  /**
   * @throws Fault VAULT_CLOSED where nobody who is here can open it, VAULT_SEALED_WRONG where it is damaged or is not what
   * its row says
   */
  open(sealed: Uint8Array, expected: Omit<About, 'at'>): Promise<Buffer>;
}

/** For key pairs that are prepared. */
export interface PoolVault extends Vault {
  /** A device's key is sealed to the very same, so that it can stay as it is when it becomes one. */
  readonly sealsAsForDevices: boolean;
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

export function vaultWith({ recipients, identities, opensAll, closedHint }: VaultKeys, sealer = localSealer()): Vault {
  return {
    async seal(bytes, about) {
      const plain = envelope(about, bytes); // as the bytes are now: the caller may go on with them
      let sealTo: ReadonlySet<string>;
      try {
        sealTo = new Set(await recipients());
        if (sealTo.size === 0) throw new Fault('BUG', 'an item would be sealed to nobody');
      } catch (error) {
        wipe(plain);
        throw error;
      }
      return sealer.seal([...sealTo], plain);
    },
    async open(sealed, expected) {
      const opened = await sealer.open(await identities(), sealed);
      if (opened.plain === null) {
        const which = nameOf(expected);
        const cause = new Error(opened.reason);
        if (opened.fits || opensAll) throw new Fault('VAULT_SEALED_WRONG', `${which} can't be opened`, { cause });
        throw new Fault('VAULT_CLOSED', `${which} is sealed to none of the identities that are here`, {
          ...(closedHint !== undefined && { hint: closedHint }),
          cause,
        });
      }
      try {
        return unwrapEnvelope(opened.plain, expected);
      } catch (error) {
        wipe(opened.plain);
        throw error;
      }
    },
  };
}

/** A vault that seals to, and opens with, one identity of the station (policy `local`). */
export function vaultOf({ identity, recipient }: { identity: string; recipient: string }, sealer?: Sealer): Vault {
  const keys = {
    recipients: () => Promise.resolve([recipient]),
    identities: () => Promise.resolve([identity]),
    opensAll: true,
  };
  return vaultWith(keys, sealer);
}
