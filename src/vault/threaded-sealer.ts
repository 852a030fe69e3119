import { Worker } from 'node:worker_threads';
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
 * A sealer in a thread of its own, so that the event loop, which every device waits for, does not. The thread is started
 * at once, loads the package meanwhile, and keeps no process alive that waits for nothing of it.
 */
export function threadedSealer(): Sealer {
  const worker = new Worker(new URL('./sealing-thread.js', import.meta.url), {
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  });
  const waiting = new Map<number, Waiting>();
  let nextId = 1;
  let gone: Fault | null = null;
  const fail = (why: string): void => {
    gone ??= new Fault('BUG', `the sealing thread ${why}`);
    for (const { reject } of waiting.values()) reject(gone);
    waiting.clear();
  };
  worker.on('error', error => fail(`died: ${error.message}`));
  worker.on('exit', () => fail('has ended'));
  worker.on('message', (reply: SealingReply) => {
    const one = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (waiting.size === 0) worker.unref();
    one?.resolve(reply);
  });
  worker.unref(); // last: a listener for messages holds the process as well
  const ask = (request: Without<SealingRequest, 'id'>, moved: readonly ArrayBuffer[] = []): Promise<SealingReply> => {
    if (gone) return Promise.reject(gone);
    const id = nextId;
    nextId += 1;
    return new Promise((resolve, reject) => {
      if (waiting.size === 0) worker.ref();
      waiting.set(id, { resolve, reject });
      worker.postMessage({ ...request, id }, moved);
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
