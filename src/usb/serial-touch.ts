import { readdir } from 'node:fs/promises';
import type { UsbPath } from '../core/usb-path.ts';

/** At this speed Device OS takes the opening of its serial port for the wish to start in DFU mode (device-os: usb_hal). */
const TOUCH_BAUD = 14_400;
const SYSFS = '/sys/bus/usb/devices';

/**
 * The serial port of a USB device, as Linux names it.
 * @returns such as `/dev/ttyACM0`; null where it has none, or this is no Linux
 */
export async function ttyOf(path: UsbPath, sysfs = SYSFS): Promise<string | null> {
  for (const name of (await entries(sysfs)).filter(one => one.startsWith(`${path}:`))) {
    const [tty] = await entries(`${sysfs}/${name}/tty`);
    if (tty !== undefined) return `/dev/${tty}`;
  }
  return null;
}

async function entries(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

/**
 * Opens a serial port at 14400 baud and closes it again.
 * @returns false where it can't be opened, or the package `serialport`, which is optional, is not installed
 */
export async function touch(tty: string): Promise<boolean> {
  const serialport = await import('serialport').catch(() => null);
  if (!serialport) return false;
  const port = new serialport.SerialPort({ path: tty, baudRate: TOUCH_BAUD, autoOpen: false });
  port.on('error', () => undefined); // it may vanish while it is open: that is what is wanted
  const isOpen = await new Promise<boolean>(resolve => port.open(error => resolve(error === null)));
  if (isOpen) await new Promise<void>(resolve => port.close(() => resolve()));
  return isOpen;
}
