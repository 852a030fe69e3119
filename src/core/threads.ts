import { Worker } from 'node:worker_threads';

/** What a thread runs, as the build has joined it: the same file for whoever starts it, from the bundle or beside it. */
export function threadFile(name: 'worker' | 'sealing-thread' | 'chain-thread'): URL {
  return new URL(`../bundle/${name}.js`, import.meta.url);
}

/** Threads of one kind. The first can be started before it is known what for: it loads meanwhile, beside whoever does. */
export class Threads {
  readonly #file: URL;
  #early: Worker | null = null;

  /** @param file what they run; what one is for is posted to it */
  constructor(file: URL) {
    this.#file = file;
  }

  /** Keeps no process alive, and does nothing until it is taken. */
  startEarly(): void {
    this.#early = this.#start();
    this.#early.once('error', () => {
      this.#early = null; // the next fails in the same way, and somebody is there to hear it
    });
    this.#early.unref();
  }

  take(): Worker {
    const taken = this.#early ?? this.#start();
    this.#early = null;
    taken.removeAllListeners('error');
    taken.ref();
    return taken;
  }

  #start(): Worker {
    // What a request leaves behind is garbage at once: a small nursery does.
    return new Worker(this.#file, { resourceLimits: { maxYoungGenerationSizeMb: 8 } });
  }
}
