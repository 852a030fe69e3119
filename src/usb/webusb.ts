import { existsSync } from 'node:fs';
import { WebUSB } from 'usb';
import { Fault } from '../core/errors.ts';
import { hubOf, parseUsbPath } from '../core/usb-path.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ControlSetup, InResult, OutResult, UsbBus, UsbPort } from './port.ts';

/*
 * This host's bus, by the package `usb` (Rust, nusb). What is known of it: its default timeout is 1 s, so one is always
 * passed; `controlTransferOut` without data throws, so an empty array is; stalls and disconnects come as errors whose
 * text is classified here and nowhere else; hot-plug events come from udev and can be lost.
 */

type Device = Awaited<ReturnType<WebUSB['getDevices']>>[number];

/** Whether this machine has a USB bus that a program can see. */
export function hasUsb(): boolean {
  return process.platform !== 'linux' || (existsSync('/sys/bus/usb/devices') && existsSync('/dev/bus/usb'));
}

/** @throws Fault USB_UNAVAILABLE from `list` where the machine has no USB */
export function localBus(): UsbBus {
  const usb = new WebUSB({ allowAllDevices: true });
  const unsubscribes = new Set<() => void>();
  return {
    name: 'usb',
    async list() {
      if (!hasUsb()) throw new Fault('USB_UNAVAILABLE', 'this machine has no USB');
      let devices: Device[];
      try {
        devices = await usb.getDevices();
      } catch (cause) {
        throw new Fault('USB_UNAVAILABLE', `the USB bus can't be read: ${textOf(cause)}`, { cause });
      }
      return devices.flatMap(device => portOf(device) ?? []);
    },
    onChange(listener) {
      if (!hasUsb()) return () => undefined;
      usb.addEventListener('connect', listener);
      usb.addEventListener('disconnect', listener);
      const unsubscribe = (): void => {
        usb.removeEventListener('connect', listener);
        usb.removeEventListener('disconnect', listener);
        unsubscribes.delete(unsubscribe);
      };
      unsubscribes.add(unsubscribe);
      return unsubscribe;
    },
    close() {
      for (const unsubscribe of [...unsubscribes]) unsubscribe();
      return Promise.resolve();
    },
  };
}

/** null for a root hub, which hangs on no port. */
function portOf(device: Device): WebUsbPort | null {
  const path = parseUsbPath(`${Number.parseInt(device.bus, 10)}-${device.ports.join('.')}`);
  return path && new WebUsbPort(device, path);
}

class WebUsbPort implements UsbPort {
  readonly path: UsbPath;
  readonly hub: string;
  readonly instance: string;
  readonly vendorId: number;
  readonly productId: number;
  readonly release: number;
  readonly serialNumber: string | null;
  readonly #device: Device;

  constructor(device: Device, path: UsbPath) {
    this.#device = device;
    this.path = path;
    this.hub = hubOf(path);
    this.instance = String(device.address);
    this.vendorId = device.vendorId;
    this.productId = device.productId;
    const { deviceVersionMajor: major, deviceVersionMinor: minor, deviceVersionSubminor: sub } = device;
    this.release = (major << 8) | (minor << 4) | sub;
    this.serialNumber = device.serialNumber ?? null;
  }

  get opened(): boolean {
    return this.#device.opened;
  }

  open(): Promise<void> {
    return this.#asking(() => this.#device.open());
  }

  async close(): Promise<void> {
    try {
      await this.#device.close();
    } catch {
      // Closed or gone already: there is nothing left to let go of.
    }
  }

  claimInterface(interfaceNumber: number): Promise<void> {
    return this.#asking(() => this.#device.claimInterface(interfaceNumber));
  }

  releaseInterface(interfaceNumber: number): Promise<void> {
    return this.#asking(() => this.#device.releaseInterface(interfaceNumber));
  }

  selectAlternateInterface(interfaceNumber: number, alternateSetting: number): Promise<void> {
    return this.#asking(() => this.#device.selectAlternateInterface(interfaceNumber, alternateSetting));
  }

  async controlTransferIn(setup: ControlSetup, length: number, timeoutMs: number): Promise<InResult> {
    try {
      const { status, data } = await this.#asking(() => transferIn(this.#device, setup, length, timeoutMs));
      if (status !== 'ok' || !data) return { status: 'stall' };
      return { status: 'ok', data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
    } catch (error) {
      if (isStall(error)) return { status: 'stall' };
      throw error;
    }
  }

  async controlTransferOut(setup: ControlSetup, data: Uint8Array, timeoutMs: number): Promise<OutResult> {
    try {
      const { status, bytesWritten } = await this.#asking(() => transferOut(this.#device, setup, data, timeoutMs));
      return status === 'ok' ? { status, bytesWritten } : { status: 'stall' };
    } catch (error) {
      if (isStall(error)) return { status: 'stall' };
      throw error;
    }
  }

  reset(): Promise<void> {
    return this.#asking(() => this.#device.reset());
  }

  async #asking<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (cause) {
      throw classify(cause, this.path);
    }
  }
}

/** WebUSB has no timeout; the package takes it as a further argument that its types do not know. */
type TransferIn = (setup: ControlSetup, length: number, timeoutMs: number) => ReturnType<Device['controlTransferIn']>;
type TransferOut = (
  setup: ControlSetup,
  data: Uint8Array,
  timeoutMs: number,
) => ReturnType<Device['controlTransferOut']>;

function transferIn(device: Device, ...args: Parameters<TransferIn>): ReturnType<TransferIn> {
  return (device.controlTransferIn as TransferIn).apply(device, args);
}

function transferOut(device: Device, ...args: Parameters<TransferOut>): ReturnType<TransferOut> {
  return (device.controlTransferOut as TransferOut).apply(device, args);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isStall(error: unknown): boolean {
  return error instanceof Fault && error.code === 'USB_STALL';
}

/** In order: the first that fits counts. */
const TEXTS = [
  [/stall/i, 'USB_STALL', 'the device refused the request'],
  [/cancel|timed? ?out/i, 'USB_TIMEOUT', 'the device did not answer in time'],
  [/disconnect|no such device|not found|no such file|os error (2|19|108)\b/i, 'USB_GONE', 'the device left the bus'],
  [/permission|access|os error 13\b/i, 'USB_ACCESS', 'this user may not open the device'],
  [/busy|already|in use|os error 16\b/i, 'USB_BUSY', 'another program holds the device'],
] as const;

function classify(cause: unknown, path: UsbPath): Fault {
  const text = textOf(cause);
  const known = TEXTS.find(([pattern]) => pattern.test(text));
  const facts = { path, reported: text };
  return known
    ? new Fault(known[1], known[2], { facts, cause })
    : new Fault('USB_IO', `the transfer failed: ${text}`, { facts, cause });
}
