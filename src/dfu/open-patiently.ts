import type { Clock } from '../core/clock.ts';
import { isWorthRetryNow } from '../core/errors.ts';
import type { UsbPort } from '../usb/port.ts';

/** What udev takes to open a device up that has just appeared, and a rack to let one go. */
const RETRY_FOR_MS = 2000;
const RETRY_EVERY_MS = 100;

/**
 * Opens a device; one that may not be opened yet is tried again for 2 s.
 * @param how.claim its interface 0 too, as whoever speaks to the interface needs it
 * @throws Fault USB_*
 */
export async function openPatiently(
  port: UsbPort,
  clock: Clock,
  { claim, signal }: { readonly claim: boolean; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const until = clock.monotonicMs() + RETRY_FOR_MS;
  for (;;) {
    try {
      await port.open();
      if (claim) await port.claimInterface(0); // where a kernel says "busy", it says so here
      return;
    } catch (error) {
      await port.close();
      if (!isWorthRetryNow(error) || clock.monotonicMs() >= until || signal?.aborted) throw error;
      await clock.sleep(RETRY_EVERY_MS, signal);
    }
  }
}
