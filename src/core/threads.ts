import { MessageChannel, Worker } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';

/** What a thread of the station does for whoever asks (src/cli/station-thread.ts). */
export type Service = 'record' | 'sealing';

/** The first message to a thread, and any later one. */
export interface Connected {
  readonly service: Service;
  readonly port: MessagePort;
}

/** What a thread runs, as the build has joined it: the same file for whoever starts it, from the bundle or beside it. */
export function threadFile(name: 'station-thread' | 'chain-thread'): URL {
  return new URL(`../bundle/${name}.js`, import.meta.url);
}

/** A thread that has been taken by somebody. It keeps the process alive until it ends. */
export class Thread {
  readonly #worker: Worker;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.ref();
    worker.on('error', () => undefined); // whoever waits for it is told by `onDeath`, or by the end of a port
  }

  /** A way to one of its services. It closes when the thread ends. */
  connect(service: Service): MessagePort {
    const { port1, port2 } = new MessageChannel();
    this.#worker.postMessage({ service, port: port2 } satisfies Connected, [port2]);
    return port1;
  }

  onDeath(told: (why: Error) => void): void {
    this.#worker.on('error', told);
  }

  /** When the thread has ended. A port to it closes behind the last message, which may be read only after that. */
  onEnd(told: () => void): void {
    this.#worker.once('exit', told);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Threads of one kind. The first can be started before it is known what for: it loads meanwhile, beside whoever does. */
export class Threads {
  readonly #file: URL;
  #early: Worker | null = null;

  /** @param file what they run */
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

  take(): Thread {
    const taken = this.#early ?? this.#start();
    this.#early = null;
    taken.removeAllListeners('error');
    return new Thread(taken);
  }

  #start(): Worker {
    // What a request leaves behind is garbage at once: a small nursery does.
    return new Worker(this.#file, { resourceLimits: { maxYoungGenerationSizeMb: 8 } });
  }
}

/** Each owns one database, and seals for whoever has it open: two threads would take twice as long to start. */
export const stationThreads = new Threads(threadFile('station-thread'));
