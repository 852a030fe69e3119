/*
 * As much of the Streams standard (streams.spec.whatwg.org) as age's package needs for an item that is in memory as a whole: the
 * build puts it in the place of Node's for that package and its caller (rolldown.config.js). A whole standard's queues,
 * locks and back-pressure cost more than all of the cryptography.
 *
 * What is piped is worked off when it is first read. Whoever reads or pipes does so alone: no stream is locked.
 */

interface Controller<T> {
  readonly enqueue: (piece: T) => void;
}

interface Source<T> {
  readonly start?: (controller: Controller<T> & { readonly close: () => void }) => void;
}

interface Transformer<I, O> {
  readonly start?: (controller: Controller<O>) => void;
  readonly transform?: (piece: I, controller: Controller<O>) => void;
  readonly flush?: (controller: Controller<O>) => void;
}

interface Reader<T> {
  readonly read: () => Promise<{ done: false; value: T } | { done: true; value: undefined }>;
  readonly releaseLock: () => void;
}

export class TransformStream<I, O> {
  readonly transformer: Transformer<I, O>;

  constructor(transformer: Transformer<I, O>) {
    this.transformer = transformer;
  }
}

export class ReadableStream<T extends object> {
  readonly #pieces: T[] = [];
  #fill = (): Promise<void> => Promise.resolve();
  #filled: Promise<void> | null = null;

  constructor({ start }: Source<T> = {}) {
    start?.({ enqueue: piece => this.#pieces.push(piece), close: () => undefined });
  }

  getReader(): Reader<T> {
    return {
      read: async () => {
        await this.#allOfIt();
        const value = this.#pieces.shift();
        return value === undefined ? { done: true, value: undefined } : { done: false, value };
      },
      releaseLock: () => undefined,
    };
  }

  pipeThrough<O extends object>({ transformer }: TransformStream<T, O>): ReadableStream<O> {
    const piped = new ReadableStream<O>();
    const controller = { enqueue: (piece: O) => piped.#pieces.push(piece) };
    piped.#fill = async () => {
      await this.#allOfIt();
      transformer.start?.(controller);
      for (const piece of this.#pieces.splice(0)) {
        if (transformer.transform) transformer.transform(piece, controller);
        else controller.enqueue(piece as unknown as O); // as the standard has it: what nobody transforms passes
      }
      transformer.flush?.(controller);
    };
    return piped;
  }

  /** Once: what fails fails for everyone who reads. */
  #allOfIt(): Promise<void> {
    return (this.#filled ??= this.#fill());
  }
}
