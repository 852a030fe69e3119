/** A moment that comes at most once; any number may wait for it, and none of them has to be told apart. */
export class Moment {
  #came = false;
  #waiting: Set<() => void> | null = null;

  get came(): boolean {
    return this.#came;
  }

  come(): void {
    if (this.#came) return;
    this.#came = true;
    const waiting = this.#waiting;
    this.#waiting = null;
    for (const tell of waiting ?? []) tell();
  }

  /** Calls back when the moment comes, or at once. @returns what takes the callback back */
  tell(tell: () => void): () => void {
    if (this.#came) {
      tell();
      return () => undefined;
    }
    const waiting = (this.#waiting ??= new Set());
    waiting.add(tell);
    return () => waiting.delete(tell);
  }
}

/** Settles with `work`, or with the value of whichever moment comes first. `work` itself goes on. */
export async function orMoment<T>(work: Promise<T>, ...moments: readonly (readonly [Moment, T])[]): Promise<T> {
  const backs: (() => void)[] = [];
  try {
    return await new Promise<T>((resolve, reject) => {
      work.then(resolve, reject);
      for (const [moment, value] of moments) backs.push(moment.tell(() => resolve(value)));
    });
  } finally {
    for (const back of backs) back();
  }
}

/** The turns of endpoint 0: one transfer at a time, in the order of arrival. */
export class Turns {
  /** How many wait for their turn now. */
  waiting = 0;
  #last: Promise<void> | null = null;

  /** @returns when it is this caller's turn (null: now), and what ends the turn (to be called once, on every road) */
  take(): { readonly ready: Promise<void> | null; end(): void } {
    const before = this.#last;
    let pass: () => void = () => undefined;
    const mine = new Promise<void>(resolve => {
      pass = resolve;
    });
    this.#last = mine;
    const end = (): void => {
      if (this.#last === mine) this.#last = null;
      pass();
    };
    return { ready: before, end: () => (before ? void before.then(end) : end()) };
  }
}
