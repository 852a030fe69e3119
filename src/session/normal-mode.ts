import type { Clock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { askSerialNumber } from '../dfu/descriptors.ts';
import { enterDfu } from '../dfu/enter-dfu.ts';
import { platformOfPort } from '../job/port-facts.ts';
import type { UsbPort } from '../usb/port.ts';
import type { FindAgain } from './climb.ts';

export { enterDfu } from '../dfu/enter-dfu.ts';

/** From leaving DFU mode until the firmware runs and its USB is up, or the bootloader is back; in ms. */
const START_MS = 20_000;
const LOOK_EVERY_MS = 100;

/** A Photon or P1 that runs its firmware. */
export function isInNormalMode(port: UsbPort): boolean {
  return platformOfPort(port)?.mode === 'normal';
}

/**
 * Who a device in normal mode says it is, whatever its bootloader: its serial is its ID from firmware 0.6 on. It is
 * opened only where the host has not read the serial.
 * @throws Fault USB_*, DESCRIPTOR_INVALID
 */
export async function identifyNormal(port: UsbPort, clock: Clock): Promise<DeviceId | null> {
  const serial = port.serialNumber === undefined ? await askSerialNumber(port, clock) : port.serialNumber;
  return serial === null ? null : parseDeviceId(serial);
}

/** A device that has left DFU mode, and how it is looked for at its path. */
export interface Started {
  readonly deviceId: DeviceId;
  /** As it was in DFU mode. */
  readonly before: UsbPort;
  readonly clock: Clock;
  readonly findAgain: FindAgain;
  readonly findNormal: FindAgain;
  /** Whether it may be switched from normal mode. */
  readonly enterDfu: boolean;
  readonly drain: AbortSignal;
}

/**
 * Waits until the device is in DFU mode once more: by itself, or told so in normal mode where that is allowed.
 * @returns null where it runs and may not be switched, or does not come back
 * @throws Fault ENTER_DFU_REFUSED, USB_*
 */
export async function backInDfu(started: Started): Promise<UsbPort | null> {
  let told: string | null = null;
  const found = await untilFound(started, async (dfu, normal) => {
    if (dfu) return { port: dfu };
    if (!normal || told === normal.instance) return undefined;
    if (!started.enterDfu || (await identifyNormal(normal, started.clock)) !== started.deviceId) return { port: null };
    told = normal.instance;
    await enterDfu(normal, started.clock);
    return undefined;
  });
  return found?.port ?? null;
}

/**
 * Waits until the device runs its firmware. It has left and is through, so nobody who stops calls this off: it ends soon.
 * @throws Fault NOT_RUNNING, IDENTITY_CHANGED
 */
export async function untilRunning(started: Started): Promise<void> {
  const patient = { ...started, drain: new AbortController().signal };
  const found = await untilFound(patient, (dfu, normal) => Promise.resolve(normal ?? dfu ?? undefined));
  if (!found) throw new Fault('NOT_RUNNING', `it is not on the bus in normal mode after ${START_MS / 1000} s`);
  if (!isInNormalMode(found)) throw new Fault('NOT_RUNNING', 'it is in DFU mode again instead of running its firmware');
  const id = await identifyNormal(found, started.clock);
  if (id !== started.deviceId) {
    throw new Fault('IDENTITY_CHANGED', `the device that runs here is ${id ?? 'nobody'}, not ${started.deviceId}`, {
      facts: { path: found.path },
    });
  }
}

/** @param judge gives what was waited for; undefined: go on looking */
async function untilFound<T>(
  { before, clock, findAgain, findNormal, drain }: Started,
  judge: (dfu: UsbPort | null, normal: UsbPort | null) => Promise<T | undefined>,
): Promise<T | null> {
  const sinceMs = clock.monotonicMs();
  const untilMs = sinceMs + START_MS;
  while (clock.monotonicMs() < untilMs && !drain.aborted) {
    const [dfu, normal] = [findAgain(sinceMs), findNormal(sinceMs)];
    const came = dfu && dfu.instance !== before.instance ? dfu : null;
    const found = await judge(came, normal ?? null);
    if (found !== undefined) return found;
    await clock.sleep(LOOK_EVERY_MS, drain);
  }
  return null;
}
