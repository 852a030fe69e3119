import type { Clock } from '../core/clock.ts';
import { isGone } from '../core/errors.ts';
import type { DfuDevice } from '../dfu/dfu-device.ts';
import type { UsbPort } from '../usb/port.ts';
import type { Rung } from './ladder.ts';

/** Longer than a hub takes to find its devices again, and udev to open them up. */
const RE_ENUMERATION_MS = 5000;
const LOOK_EVERY_MS = 100;
/** A look takes long where silent devices hold it up, and there may be one to wait for before it begins. */
const LOOK_PATIENCE_MS = 30_000;

/** A device as far as it is open; `device` is undefined where it has to be opened again. */
export interface Grip {
  readonly port: UsbPort;
  readonly device: DfuDevice | undefined;
}

/** The device at a path by a look at the bus that began after `sinceMs` (monotonic); undefined: not looked yet. */
export type FindAgain = (sinceMs: number) => UsbPort | null | undefined;

/** What it takes to look for a device. */
export interface Look {
  readonly clock: Clock;
  readonly findAgain: FindAgain;
  readonly drain: AbortSignal;
}

/**
 * Does what a rung says.
 * @returns what to go on with; null where the device could not be got back
 * @throws Fault where the device fails in this very act
 */
export async function climb(
  rung: Exclude<Rung, 'ask-replug' | 'back-in-dfu'>,
  { port, device }: Grip,
  look: Look,
): Promise<Grip | null> {
  switch (rung) {
    case 'again':
      return { port, device };
    case 'dfu-recovery':
      await device?.recover();
      return { port, device };
    case 'usb-reset':
      await resetPort(port);
      return foundAgain(look);
    case 're-enumerate':
      await port.close();
      return foundAgain(look);
  }
}

async function resetPort(port: UsbPort): Promise<void> {
  try {
    await port.open();
    await port.reset();
  } catch (error) {
    if (!isGone(error)) throw error; // a reset may well throw it off the bus for a moment
  } finally {
    await port.close();
  }
}

async function foundAgain({ clock, findAgain, drain }: Look): Promise<Grip | null> {
  const sinceMs = clock.monotonicMs();
  const until = sinceMs + RE_ENUMERATION_MS;
  for (;;) {
    // That it has not come back, only a look tells that began when its time was up.
    const isUp = clock.monotonicMs() >= until;
    const port = findAgain(isUp ? until : sinceMs);
    if (port) return { port, device: undefined };
    if (drain.aborted || (isUp && (port === null || clock.monotonicMs() >= until + LOOK_PATIENCE_MS))) return null;
    await clock.sleep(LOOK_EVERY_MS, drain);
  }
}
