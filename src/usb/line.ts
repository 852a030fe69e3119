/**
 * What is asked of one device: one after the other, in the order of asking. Where one fails, what was asked behind it is not
 * begun, and fails in the same way.
 */
export class Line {
  /** Null where nothing is under way that the next one would have to wait for. */
  #now: { last: Promise<unknown>; open: number } | null = null;

  inTurn<T>(ask: () => Promise<T>): Promise<T> {
    const before = this.#now;
    const mine = before ? before.last.then(ask) : ask();
    const line = before ?? { last: mine, open: 0 };
    line.last = mine;
    line.open += 1;
    this.#now = line;
    const leave = (): void => {
      if (this.#now === line) this.#now = null;
    };
    mine.then(() => {
      line.open -= 1;
      if (line.open === 0) leave();
    }, leave);
    return mine;
  }
}
