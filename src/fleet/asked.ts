import type { Clock } from '../core/clock.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { UsbPort } from '../usb/port.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

interface Answer {
  readonly instance: string;
  readonly who: string;
  readonly pauseMs: number;
  readonly untilMs: number;
}

/**
 * Which device was asked where who it is, and what came of it. Over a rack a device has to be opened to be asked, and is
 * on nobody else's list meanwhile: for another run on the same rack it goes and comes back. Runs that asked at once
 * whoever comes back would make the devices come and go for each other without end, so the same device is asked again
 * after longer and longer pauses.
 */
export class Asked {
  readonly #clock: Clock;
  readonly #answers = new Map<UsbPath, Answer>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether it was asked already: another device at the path, or the same one replugged, has another instance. */
  knows(port: UsbPort): boolean {
    return this.#answers.get(port.path)?.instance === port.instance;
  }

  isPausing(port: UsbPort): boolean {
    return this.knows(port) && this.#clock.monotonicMs() < (this.#answers.get(port.path)?.untilMs ?? -Infinity);
  }

  /**
   * Takes down who it turned out to be.
   * @returns whether that is news
   */
  note({ path, instance }: UsbPort, who: string): boolean {
    const before = this.#answers.get(path);
    const isSame = before?.instance === instance && before.who === who;
    const pauseMs = isSame ? Math.min(before.pauseMs * 2, LONGEST_PAUSE_MS) : FIRST_PAUSE_MS;
    this.#answers.set(path, { instance, who, pauseMs, untilMs: this.#clock.monotonicMs() + pauseMs });
    return !isSame;
  }
}
