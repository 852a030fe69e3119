import { fileURLToPath } from 'node:url';
import type { MessagePort } from 'node:worker_threads';
import { Fault } from '../core/errors.ts';
import { stationThreads } from '../core/threads.ts';
import type { Thread } from '../core/threads.ts';
import { fromPlain } from './messages.ts';
import type { Reply, Request, WorkerSettings } from './messages.ts';
import type { OperationInput, OperationName, OperationOutput } from './operations.ts';

interface Waiting {
  readonly resolve: (output: unknown) => void;
  readonly reject: (fault: Fault) => void;
}

/** The station's record, opened. SQLite itself runs in a thread of its own, so that nobody here waits for the disk. */
export class Store {
  /** The database's file. */
  readonly path: string;
  /** The one that owns the database. */
  readonly thread: Thread;
  readonly #port: MessagePort;
  readonly #waiting = new Map<number, Waiting>();
  /** What has been asked in this turn of the event loop: it goes to the thread together, and so into one transaction. */
  #asked: Request[] = [];
  #nextId = 1;
  #gone: Fault | null = null;
  readonly #exited: Promise<void>;

  private constructor(thread: Thread, port: MessagePort, path: string) {
    this.path = path;
    this.thread = thread;
    this.#port = port;
    // The port closes behind the last reply, which may be read here only after the thread has ended.
    const closed = new Promise<void>(resolve => {
      port.once('close', () => {
        this.#fail(new Fault('DB_FAILED', 'the database is closed'));
        resolve();
      });
    });
    const ended = new Promise<void>(resolve => thread.onEnd(resolve));
    this.#exited = Promise.all([closed, ended]).then(() => undefined);
    port.on('message', (replies: readonly Reply[]) => {
      for (const reply of replies) this.#onReply(reply);
    });
    thread.onDeath(error => this.#fail(new Fault('BUG', `the store's thread died: ${error.message}`)));
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
    const thread = stationThreads.take();
    const port = thread.connect('record');
    port.postMessage(settings);
    await new Promise<void>((resolve, reject) => {
      thread.onDeath(reject);
      port.once('message', ([reply]: readonly Reply[]) => {
        if (reply?.type === 'failed') reject(fromPlain(reply.fault));
        else resolve();
      });
    });
    return new Store(thread, port, options.path);
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
      this.#port.postMessage(asked);
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
