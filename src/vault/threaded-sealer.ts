import type { Worker } from 'node:worker_threads';
import { Fault } from '../core/errors.ts';
import type { Opened, Sealer } from './sealer.ts';
import { sealingThreads } from './sealing-threads.ts';

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

/** A thread that has had nothing to do for so long is let go: a run that waits for devices needs none. */
const IDLE_MS = 3000;

/**
 * A sealer in a thread of its own, so that the event loop, which every device waits for, does not. The thread is started
 * at once, loads the package meanwhile, and keeps no process alive that waits for nothing of it.
 */
export function threadedSealer(threads = sealingThreads): Sealer {
  let thread: SealingThread | null = new SealingThread(threads.take());
  let resting = (): void => undefined;
  const ask = async (
    request: Without<SealingRequest, 'id'>,
    moved: readonly ArrayBuffer[] = [],
  ): Promise<SealingReply> => {
    resting();
    thread ??= new SealingThread(threads.take());
    try {
      return await thread.ask(request, moved);
    } finally {
      if (thread.isIdle) {
        const timer = setTimeout(() => {
          if (thread?.isIdle) thread = thread.end();
        }, IDLE_MS).unref();
        resting = () => clearTimeout(timer);
      }
    }
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

class SealingThread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #gone: Fault | null = null;

  constructor(worker: Worker) {
    this.#worker = worker;
    this.#worker.on('error', error => this.#fail(`died: ${error.message}`));
    this.#worker.on('exit', () => this.#fail('has ended'));
    this.#worker.on('message', (reply: SealingReply) => {
      const one = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (this.isIdle) this.#worker.unref();
      one?.resolve(reply);
    });
    this.#worker.unref(); // last: a listener for messages holds the process as well
  }

  get isIdle(): boolean {
    return this.#waiting.size === 0;
  }

  ask(request: Without<SealingRequest, 'id'>, moved: readonly ArrayBuffer[]): Promise<SealingReply> {
    if (this.#gone) return Promise.reject(this.#gone);
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      if (this.isIdle) this.#worker.ref();
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ ...request, id }, moved);
    });
  }

  /** Lets it go. @returns nothing of it */
  end(): null {
    void this.#worker.terminate();
    return null;
  }

  #fail(why: string): void {
    this.#gone ??= new Fault('BUG', `the sealing thread ${why}`);
    for (const { reject } of this.#waiting.values()) reject(this.#gone);
    this.#waiting.clear();
  }
}

type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

function failure(reply: SealingReply): Fault {
  return new Fault('BUG', `sealing failed: ${'failed' in reply ? reply.failed : 'an answer to something else'}`);
}
