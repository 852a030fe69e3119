import type { Clock } from '../core/clock.ts';
import type { UsbBus, UsbPort } from '../usb/port.ts';

/** Events can be lost. */
const LOOK_LASTS_MS = 5000;

/**
 * The bus, of which somebody has looked at what is there: as long as nothing comes or goes, the next one to ask is told that. A
 * look costs something for each device, and a run looks before it touches its record, and when it begins. A bus that does not
 * tell what comes is looked at again.
 * @throws Fault what the look throws
 */
export async function lookedAt(bus: UsbBus, clock: Clock): Promise<UsbBus> {
  if (bus.tellsOfArrivals !== true) {
    await bus.list();
    return bus;
  }
  let found: Promise<UsbPort[]> | null = null;
  const forget = (): void => {
    found = null;
  };
  const unsubscribe = bus.onChange(forget);
  const atMs = clock.monotonicMs();
  try {
    await (found = bus.list());
  } catch (error) {
    unsubscribe();
    throw error;
  }
  const lookedMs = clock.monotonicMs() - atMs;
  return {
    name: bus.name,
    lookedMs,
    tellsOfArrivals: true,
    list() {
      if (clock.monotonicMs() - atMs > LOOK_LASTS_MS) forget();
      const ports = found ?? bus.list();
      forget();
      return ports;
    },
    onChange: listener => bus.onChange(listener),
    async close() {
      unsubscribe();
      await bus.close();
    },
  };
}
