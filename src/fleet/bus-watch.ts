import { NO_REASON } from '../core/clock.ts';
import type { Clock } from '../core/clock.ts';
import { toFault } from '../core/errors.ts';
import type { Fault } from '../core/errors.ts';
import type { UsbPath } from '../core/usb-path.ts';
import { isCandidate } from '../session/identify-port.ts';
import { isInNormalMode } from '../session/normal-mode.ts';
import type { UsbBus, UsbPort } from '../usb/port.ts';

/** `take`: it is an arrival. `known`: it has not been away. `later`: it is asked after again at the next look. */
export type Greeting = 'take' | 'known' | 'later';

export interface BusWatchEvents {
  /** Asked of each device that was not there at the last look. */
  readonly greet: (port: UsbPort) => Greeting;
  /** Devices in DFU mode that were not there at the last look; the first look gives all. */
  readonly onArrived: (ports: readonly UsbPort[]) => void;
  /** Devices in normal mode that were not there, or not so, at the last look. */
  readonly onNormal?: (ports: readonly UsbPort[]) => void;
  /** A bus that can't be read now; said once until it can be again. */
  readonly onTrouble: (bus: UsbBus, fault: Fault) => void;
}

/*
 * A look costs something for each device that is there (on this host's bus only where one has come), and below an emulated
 * kernel it takes a second: the more it takes, the longer is the rest. Between two looks, whatever happens, and where nothing
 * does, if that would be told:
 */
const REST = { leastMs: 50, timesLook: 20, mostMs: 2000 };
const IDLE = { leastMs: 1000, timesLook: 100, mostMs: 5000 };

const restAfter = (tookMs: number, { leastMs, timesLook, mostMs }: typeof REST): number =>
  Math.min(Math.max(leastMs, timesLook * tookMs), mostMs);

/** What a look found, and when (monotonic) it was asked for: devices in DFU mode, and those in normal mode. */
interface Look {
  readonly atMs: number;
  readonly ports: ReadonlyMap<UsbPath, UsbPort>;
  readonly normal: ReadonlyMap<UsbPath, UsbPort>;
}

/** Looks at all buses: at every event, and from time to time, since events can be lost. */
export class BusWatch {
  readonly #buses: readonly UsbBus[];
  readonly #clock: Clock;
  readonly #events: BusWatchEvents;
  readonly #present = new Map<UsbPath, string>();
  #last: Look = { atMs: -Infinity, ports: new Map(), normal: new Map() };
  readonly #troubled = new Set<UsbBus>();
  readonly #stop = new AbortController();
  #wake: AbortController = new AbortController();
  /** Every arrival is an event, unless that is lost. */
  readonly #isTold: boolean;
  #loop: Promise<void> | null = null;
  #unsubscribe: (() => void)[] = [];

  constructor(buses: readonly UsbBus[], clock: Clock, events: BusWatchEvents) {
    this.#buses = buses;
    this.#isTold = buses.every(({ tellsOfArrivals }) => tellsOfArrivals === true);
    this.#clock = clock;
    this.#events = events;
  }

  /** Whether a device is on a bus as far as the last look told. */
  isPresent(path: UsbPath): boolean {
    return this.#present.has(path) || this.#last.ports.has(path);
  }

  /** The device there is an arrival once more. */
  forget(path: UsbPath): void {
    this.#present.delete(path);
  }

  /**
   * The device at a path by a look that began after `sinceMs`.
   * @returns undefined where no such look has ended yet; then one is asked for
   */
  find(path: UsbPath, sinceMs: number): UsbPort | null | undefined {
    return this.#findIn('ports', path, sinceMs);
  }

  /** The same for a device in normal mode. */
  findNormal(path: UsbPath, sinceMs: number): UsbPort | null | undefined {
    return this.#findIn('normal', path, sinceMs);
  }

  #findIn(mode: 'ports' | 'normal', path: UsbPath, sinceMs: number): UsbPort | null | undefined {
    if (this.#last.atMs > sinceMs) return this.#last[mode].get(path) ?? null;
    this.#wake.abort(NO_REASON);
    return undefined;
  }

  /** Resolves after the first look at every bus. */
  async start(): Promise<void> {
    // Listening begins before the first look, so that nothing falls between the two.
    this.#unsubscribe = this.#buses.map(bus => bus.onChange(() => this.#wake.abort(NO_REASON)));
    this.#loop = this.#lookOnAndOn(await this.#look());
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake.abort(NO_REASON);
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    await this.#loop;
  }

  /** @param tookMs how long the first look took */
  async #lookOnAndOn(tookMs: number): Promise<void> {
    for (;;) {
      await this.#clock.sleep(this.#isTold ? restAfter(tookMs, IDLE) : IDLE.leastMs, this.#wake.signal);
      if (this.#stop.signal.aborted) return;
      this.#wake = new AbortController();
      tookMs = await this.#look();
      await this.#clock.sleep(restAfter(tookMs, REST), this.#stop.signal); // while a rack leaves, event follows event
    }
  }

  /** @returns how long it took, in ms */
  async #look(): Promise<number> {
    const atMs = this.#clock.monotonicMs();
    const lists = await Promise.all(this.#buses.map(bus => this.#list(bus)));
    const tookMs = this.#clock.monotonicMs() - atMs;
    const there = new Map<UsbPath, UsbPort>();
    const normal = new Map<UsbPath, UsbPort>();
    for (const port of lists.flat()) {
      if (isCandidate(port)) there.set(port.path, port);
      else if (isInNormalMode(port)) normal.set(port.path, port);
    }
    const before = this.#last.normal;
    this.#last = { atMs, ports: there, normal };
    const started = [...normal.values()].filter(port => before.get(port.path)?.instance !== port.instance);
    if (started.length > 0) this.#events.onNormal?.(started);
    for (const [path, instance] of [...this.#present]) {
      const port = there.get(path);
      // A bus in trouble says nothing about its devices; another device at the same path is an arrival.
      if (port ? port.instance === instance : [...this.#troubled].some(bus => isOn(bus, path))) continue;
      this.#present.delete(path);
    }
    const arrived: UsbPort[] = [];
    for (const port of there.values()) {
      const greeting = this.#present.has(port.path) ? 'known' : this.#events.greet(port);
      if (greeting === 'later') continue;
      this.#present.set(port.path, port.instance);
      if (greeting === 'take') arrived.push(port);
    }
    if (arrived.length > 0) this.#events.onArrived(arrived);
    return tookMs;
  }

  async #list(bus: UsbBus): Promise<UsbPort[]> {
    try {
      const ports = await bus.list();
      this.#troubled.delete(bus);
      return ports;
    } catch (error) {
      if (!this.#troubled.has(bus)) {
        this.#troubled.add(bus);
        this.#events.onTrouble(bus, toFault(error));
      }
      return [];
    }
  }
}

function isOn(bus: UsbBus, path: UsbPath): boolean {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? !bus.name.includes(':') : path.slice(0, slash) === bus.name;
}
