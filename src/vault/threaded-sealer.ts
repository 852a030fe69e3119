import type { MessagePort } from 'node:worker_threads';
import { Fault } from '../core/errors.ts';
import type { Opened, Sealer } from './sealer.ts';

export type SealingRequest = { readonly id: number } & (
  | { readonly type: 'seal'; readonly recipients: readonly string[]; readonly plain: Uint8Array<ArrayBuffer> }
  | { readonly type: 'open'; readonly identities: readonly string[]; readonly sealed: Uint8Array }
);

export type SealingReply = { readonly id: number } & (
  { readonly sealed: Uint8Array } | { readonly opened: Opened } | { readonly failed: string }
);

interface Waiting {
  readonly resolve: (reply: SealingReply) => void;
  readonly reject: (fault: Fault) => void;
}

/**
 * A sealer in another thread (serve-sealing.ts), so that the event loop, which every device waits for, does not wait for it.
 * @param port the way there; it is this sealer's alone
 */
export function threadedSealer(port: MessagePort): Sealer {
  const waiting = new Map<number, Waiting>();
  let nextId = 1;
  let isClosed = false;
  const gone = (): Fault => new Fault('BUG', 'the thread that seals has ended');
  port.on('message', (reply: SealingReply) => {
    const one = waiting.get(reply.id);
    waiting.delete(reply.id);
    one?.resolve(reply);
  });
  port.on('close', () => {
    isClosed = true;
    for (const { reject } of waiting.values()) reject(gone());
    waiting.clear();
  });
  port.unref(); // the thread itself keeps the process alive as long as somebody has it
  const ask = (request: Without<SealingRequest, 'id'>, moved: readonly ArrayBuffer[] = []): Promise<SealingReply> => {
    if (isClosed) return Promise.reject(gone());
    const id = nextId;
    nextId += 1;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      port.postMessage({ ...request, id }, moved);
    });
  };
  return {
    async seal(recipients, plain) {
      // The bytes move into the thread, which wipes them: no copy stays here.
      const reply = await ask({ type: 'seal', recipients, plain }, [plain.buffer]);
      if ('sealed' in reply) return reply.sealed;
      throw failure(reply);
    },
    async open(identities, sealed) {
      const reply = await ask({ type: 'open', identities, sealed });
      if ('opened' in reply) return reply.opened;
      throw failure(reply);
    },
  };
}

type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

function failure(reply: SealingReply): Fault {
  return new Fault('BUG', `sealing failed: ${'failed' in reply ? reply.failed : 'an answer to something else'}`);
}
