import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { Fault } from '../core/errors.ts';
import { fromPlain } from './messages.ts';
import type { Reply, Request, WorkerSettings } from './messages.ts';
import type { OperationInput, OperationName, OperationOutput } from './operations.ts';
import { recordThreads } from './record-threads.ts';

interface Waiting {
  readonly resolve: (output: unknown) => void;
  readonly reject: (fault: Fault) => void;
}

/** The station's record, opened. SQLite itself runs in a thread of its own, so that nobody here waits for the disk. */
export class Store {
  /** The database's file. */
  readonly path: string;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  /** What has been asked in this turn of the event loop: it goes to the thread together, and so into one transaction. */
  #asked: Request[] = [];
  #nextId = 1;
  #gone: Fault | null = null;
  readonly #exited: Promise<void>;

  private constructor(worker: Worker, path: string) {
    this.path = path;
    this.#worker = worker;
    this.#exited = new Promise(resolve => {
      worker.once('exit', () => {
        this.#fail(new Fault('DB_FAILED', 'the database is closed'));
        resolve();
      });
    });
    worker.on('message', (replies: readonly Reply[]) => {
      for (const reply of replies) this.#onReply(reply);
    });
    worker.on('error', error => this.#fail(new Fault('BUG', `the store's thread died: ${error.message}`)));
  }

  /**
   * Opens (and with `create` makes) the database, takes the locks and migrates.
   * @throws Fault DB_UNREADABLE, DB_FOREIGN, DB_NEWER, STATION_BUSY
   */
  static async open(options: {
    path: string;
    create: boolean;
    locks?: readonly string[];
    /** Who answers for what is done, in the journal. */
    operator?: string;
  }): Promise<Store> {
    const settings: WorkerSettings = {
      path: options.path,
      create: options.create,
      migrationsDir: fileURLToPath(new URL('../../migrations', import.meta.url)),
      locks: options.locks ?? [],
      operator: options.operator ?? 'unknown',
    };
    const worker = recordThreads.take();
    worker.postMessage(settings);
    await new Promise<void>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('message', ([reply]: readonly Reply[]) => {
        worker.off('error', reject);
        if (reply?.type === 'failed') reject(fromPlain(reply.fault));
        else resolve();
      });
    });
    return new Store(worker, options.path);
  }

  /** Durable when it resolves. */
  call<N extends OperationName>(name: N, input: OperationInput<N>): Promise<OperationOutput<N>> {
    return this.#ask(name, input) as Promise<OperationOutput<N>>;
  }

  /** Everything asked so far is done first. */
  async close(): Promise<void> {
    if (!this.#gone) this.#post({ id: 0, name: 'close', input: null });
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #ask(name: OperationName, input: unknown): Promise<unknown> {
    if (this.#gone) return Promise.reject(this.#gone);
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#post({ id, name, input });
    });
  }

  #post(request: Request): void {
    this.#asked.push(request);
    if (this.#asked.length > 1) return;
    setImmediate(() => {
      const asked = this.#asked;
      this.#asked = [];
      this.#worker.postMessage(asked);
    });
  }

  #onReply(reply: Reply): void {
    if (reply.type === 'ready' || reply.id === null) return;
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.type === 'done') waiting?.resolve(reply.output);
    else waiting?.reject(fromPlain(reply.fault));
  }

  #fail(fault: Fault): void {
    this.#gone ??= fault;
    for (const { reject } of this.#waiting.values()) reject(fault);
    this.#waiting.clear();
  }
}
