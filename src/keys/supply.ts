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

/** So many prepared pairs are taken, and opened, before they are asked for. They are spent, also where the run ends before. */
const TAKEN_AHEAD = 16;

/**
 * Keys for the devices of a run: those that were prepared first, then fresh ones. Either kind is begun when a device's session
 * begins, and so is opened or made while the device is being read.
 */
export class KeySupply {
  readonly #parts: SupplyParts;
  /** Pairs that nobody has asked for yet. */
  readonly #ready: KeyPair[] = [];
  readonly #waiting: Waiting[] = [];
  readonly #taking = new Set<Promise<void>>();
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
    this.#beginMore();
  }

  /** Whoever announced that needs none after all. */
  callOff(): void {
    this.#forgetAnnounced();
  }

  next(): Promise<KeyPair> {
    this.#forgetAnnounced();
    return new Promise((resolve, reject) => {
      const pair = this.#ready.shift();
      if (pair) resolve(pair);
      else this.#waiting.push({ resolve, reject });
      this.#beginMore();
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

  /** Ends. Pairs that nobody needed are wiped: they are no secret worth keeping. Never throws. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#filling;
    await Promise.all([...this.#taking, ...this.#making]);
    wipePairs(this.#ready.splice(0));
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

  #beginMore(): void {
    const { pool, make, atOnce } = this.#parts;
    for (let missing = this.#missing(); missing > 0 && !this.#closed; missing = this.#missing()) {
      const ahead = this.#taking.size + this.#ready.length;
      if (this.#prepared > 0 && ahead < this.#waiting.length + TAKEN_AHEAD) {
        this.#prepared -= 1;
        this.#begin(this.#taking, () => pool.take());
      } else if (missing > this.#prepared && this.#making.size < atOnce) {
        this.#begin(this.#making, make);
      } else {
        return;
      }
    }
  }

  #missing(): number {
    const coming = this.#ready.length + this.#taking.size + this.#making.size;
    return this.#announced + this.#waiting.length - coming;
  }

  #begin(running: Set<Promise<void>>, get: () => Promise<KeyPair | null>): void {
    const one = this.#handOut(get).finally(() => {
      running.delete(one);
      this.#beginMore();
    });
    running.add(one);
  }

  /** @param get gives null where there is none after all: another one is begun then */
  async #handOut(get: () => Promise<KeyPair | null>): Promise<void> {
    try {
      const pair = await get();
      if (!pair) return;
      const waiting = this.#waiting.shift();
      if (waiting) waiting.resolve(pair);
      else this.#ready.push(pair);
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
