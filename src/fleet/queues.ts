import PQueue from 'p-queue';
import type { Clock } from '../core/clock.ts';

/** So many devices at once are before their write. */
const FRONT = 24;
/** A device that is slow before its write holds up nobody for longer than this. */
const FRONT_MS = 1000;

/**
 * One queue for the station and one for each hub: a device waits for its hub first, then for the station, so that a full
 * hub holds up nobody else.
 *
 * What comes before a write keeps this host busy, and a write only its device. If all devices went step by step
 * together, the host would rest while all of them write; so they begin a few at a time, and the first ones write while
 * the others are being read.
 */
export class DeviceQueues {
  readonly #station: PQueue;
  readonly #front = new PQueue({ concurrency: FRONT });
  readonly #hubs = new Map<string, PQueue>();
  readonly #perHub: number;
  readonly #clock: Clock;

  constructor(limits: { concurrency: number; perHub: number }, clock: Clock) {
    this.#station = new PQueue({ concurrency: limits.concurrency });
    this.#perHub = limits.perHub;
    this.#clock = clock;
  }

  async run<T>(hub: string, work: () => Promise<T>): Promise<T> {
    let queue = this.#hubs.get(hub);
    if (!queue) {
      queue = new PQueue({ concurrency: this.#perHub });
      this.#hubs.set(hub, queue);
    }
    return queue.add(() => this.#station.add(work));
  }

  /** @param work calls `onWriting` when its device is busy by itself from then on */
  runInTurn(hub: string, work: (onWriting: () => void) => Promise<void>): Promise<void> {
    return this.run(hub, () => this.#atFront(work));
  }

  async #atFront(work: (onWriting: () => void) => Promise<void>): Promise<void> {
    let leave = (): void => undefined;
    await new Promise<void>(begin => {
      void this.#front.add(() => {
        begin();
        return new Promise<void>(resolve => (leave = resolve));
      });
    });
    const callOff = this.#clock.after(FRONT_MS, leave);
    try {
      await work(leave);
    } finally {
      callOff();
      leave();
    }
  }
}
