import PQueue from 'p-queue';

/**
 * One queue for the station and one for each hub: a device waits for its hub first, then for the station, so that a full
 * hub holds up nobody else.
 */
export class DeviceQueues {
  readonly #station: PQueue;
  readonly #hubs = new Map<string, PQueue>();
  readonly #perHub: number;

  constructor(limits: { concurrency: number; perHub: number }) {
    this.#station = new PQueue({ concurrency: limits.concurrency });
    this.#perHub = limits.perHub;
  }

  async run<T>(hub: string, work: () => Promise<T>): Promise<T> {
    let queue = this.#hubs.get(hub);
    if (!queue) {
      queue = new PQueue({ concurrency: this.#perHub });
      this.#hubs.set(hub, queue);
    }
    return queue.add(() => this.#station.add(work));
  }
}
