import { ReadableStream } from 'node:stream/web';
import type { Stanza } from 'age-encryption';
import { wipe } from '../core/bytes.ts';
import { identityOf, recipientOf } from './x25519.ts';

/** Seals and opens in the age format, whoever it is for and whatever it holds. */
export interface Sealer {
  /**
   * @param recipients `age1…`, one at least
   * @param plain is given away: it is wiped when it has been sealed
   */
  seal(recipients: readonly string[], plain: Uint8Array<ArrayBuffer>): Promise<Uint8Array>;
  /** Throws nothing for what can't be opened. @param identities `AGE-SECRET-KEY-1…` */
  open(identities: readonly string[], sealed: Uint8Array): Promise<Opened>;
}

export type Opened =
  | { readonly plain: Uint8Array }
  /** `fits`: one of the identities is that of a recipient, so the item is damaged. `reason` is the package's. */
  | { readonly plain: null; readonly fits: boolean; readonly reason: string };

/** In the thread that asks. */
export function localSealer(): Sealer {
  const recipientFor = remembered(recipientOf);
  const identityFor = remembered(identityOf);
  return {
    async seal(recipients, plain) {
      const { Encrypter } = await import('age-encryption'); // not before it is needed: it is large
      const encrypter = new Encrypter();
      for (const recipient of recipients) encrypter.addRecipient(recipientFor(recipient));
      try {
        return await whole(await encrypter.encrypt(streamOf(plain)));
      } finally {
        wipe(plain);
      }
    },
    async open(identities, sealed) {
      const { Decrypter } = await import('age-encryption');
      const decrypter = new Decrypter();
      const found = { fits: false };
      for (const identity of identities) {
        const one = identityFor(identity);
        decrypter.addIdentity({
          async unwrapFileKey(stanzas: Stanza[]) {
            const fileKey = await one.unwrapFileKey(stanzas);
            found.fits ||= fileKey !== null;
            return fileKey;
          },
        });
      }
      try {
        return { plain: await whole(await decrypter.decrypt(streamOf(sealed))) };
      } catch (cause) {
        return { plain: null, fits: found.fits, reason: cause instanceof Error ? cause.message : 'it threw no error' };
      }
    },
  };
}

/* Streams at both ends: for bytes, the package reads its own through a Response, which loads all of Node's fetch. */

function streamOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(bytes);
      controller.close();
    },
  });
}

/** In memory of its own, so that it can be handed over; the pieces are wiped. */
async function whole(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) pieces.push(next.value);
    const all = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  } finally {
    wipe(...pieces);
  }
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
