import { wipe } from '../core/bytes.ts';
import type { KeyPair } from './make-key-pair.ts';

/** The pairs that were made ahead and lie in the record. */
export interface Pool {
  /** How many are there. */
  count(): Promise<number>;
  /** One of them, which nobody has had or will have; null where there is none that can be used. */
  take(): Promise<KeyPair | null>;
  /** Keeps pairs for later; wipes them here. */
  put(pairs: readonly KeyPair[]): Promise<void>;
}

export interface SupplyParts {
  readonly pool: Pool;
  readonly make: () => Promise<KeyPair>;
  /** Pairs that are made at once: making one keeps a processor busy. */
  readonly atOnce: number;
  /** Told once, where no more pairs can be prepared. */
  readonly onTrouble: (error: unknown) => void;
}

interface Waiting {
  readonly resolve: (pair: KeyPair) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Keys for the devices of a run: those that were prepared first, then fresh ones, which are begun when a device's session
 * begins and so are made while the device is being read.
 */
export class KeySupply {
  readonly #parts: SupplyParts;
  /** Fresh pairs that nobody has asked for yet. */
  readonly #made: KeyPair[] = [];
  readonly #waiting: Waiting[] = [];
  readonly #making = new Set<Promise<void>>();
  /** In the pool, as far as this process knows. */
  #prepared: number;
  /** Pairs that somebody will ask for. */
  #announced = 0;
  #filling: Promise<void> | null = null;
  #closedToFilling = false;
  #closed = false;

  private constructor(parts: SupplyParts, prepared: number) {
    this.#parts = parts;
    this.#prepared = prepared;
  }

  static async open(parts: SupplyParts): Promise<KeySupply> {
    return new KeySupply(parts, await parts.pool.count());
  }

  /** Somebody will ask for a pair soon. */
  announce(): void {
    this.#announced += 1;
    this.#makeMore();
  }

  async next(): Promise<KeyPair> {
    this.#forgetAnnounced();
    while (this.#prepared > 0) {
      this.#prepared -= 1;
      const pair = await this.#parts.pool.take();
      if (pair) return pair;
    }
    const made = this.#made.shift();
    if (made) return made;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#makeMore();
    });
  }

  /** While nobody needs a pair, makes some for later, until so many are prepared. One at a time: it may be interrupted. */
  fill(target: number): void {
    this.#filling ??= this.#fillTo(target)
      .catch((error: unknown) => {
        this.#closedToFilling = true;
        this.#parts.onTrouble(error);
      })
      .finally(() => {
        this.#filling = null;
      });
  }

  /** Ends. Pairs that were made and nobody needed are wiped: they are no secret worth keeping. Never throws. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#filling;
    await Promise.all(this.#making);
    wipePairs(this.#made.splice(0));
  }

  async #fillTo(target: number): Promise<void> {
    const { make, pool } = this.#parts;
    while (!this.#closed && !this.#closedToFilling && this.#isIdle() && this.#prepared < target) {
      const pair = await make();
      await pool.put([pair]);
      this.#prepared += 1;
    }
  }

  #isIdle(): boolean {
    return this.#announced === 0 && this.#waiting.length === 0;
  }

  #forgetAnnounced(): void {
    if (this.#announced > 0) this.#announced -= 1;
  }

  #makeMore(): void {
    const missing = this.#announced + this.#waiting.length - this.#prepared - this.#made.length - this.#making.size;
    const room = this.#parts.atOnce - this.#making.size;
    for (let n = 0; n < Math.min(missing, room) && !this.#closed; n += 1) {
      const making = this.#make().finally(() => {
        this.#making.delete(making);
        this.#makeMore();
      });
      this.#making.add(making);
    }
  }

  async #make(): Promise<void> {
    try {
      const pair = await this.#parts.make();
      const waiting = this.#waiting.shift();
      if (waiting) waiting.resolve(pair);
      else this.#made.push(pair);
    } catch (error) {
      const waiting = this.#waiting.shift();
      if (waiting) waiting.reject(error);
      else this.#forgetAnnounced(); // whoever asks has one made anew
    }
  }
}

/** Private halves do not outlive their use. */
export function wipePairs(pairs: readonly KeyPair[]): void {
  wipe(...pairs.map(({ privateDer }) => privateDer));
}
