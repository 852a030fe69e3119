import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebUSB } from 'usb';
import { systemClock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { hubOf, parseUsbPath } from '../core/usb-path.ts';
import type { UsbPath } from '../core/usb-path.ts';
import { Line } from './line.ts';
import type { ControlSetup, InResult, OutResult, UsbBus, UsbPort } from './port.ts';
import { busyFault, goneFault, ioFault, stallFault, timeoutFault } from './port-faults.ts';
import { devicesPresent, Seen } from './presence.ts';
import { setInterface } from './setup-packet.ts';
import { touch, ttyOf } from './serial-touch.ts';

/*
 * This host's bus, by the package `usb` (Rust, nusb). What is known of it, all of it tried on a Linux kernel:
 * - Its default timeout is 1 s, so one is always passed; `controlTransferOut` without data throws, so an empty array is.
 * - Stalls, timeouts and disconnects come as errors that differ in their text only. It is read here and nowhere else.
 * - While a transfer is in flight nothing ends it before its timeout, and whatever changes the device (close, release,
 *   an alternate setting) throws.
 * - `close` leaves claimed interfaces claimed until the garbage collector comes by, so each is released first. An
 *   interface that is claimed twice by one handle is free for everybody.
 * - Hot-plug events come from udev's daemon and can be lost.
 * - A look reads some 25 files of sysfs for each device, which below an emulated kernel takes a second for sixty of them.
 * - To tell the serial number of a device that has none, it opens that device, and throws where it may not.
 * - `reset` is the kernel's USBDEVFS_RESET. A device that comes back keeps its number, no event tells of it, and the
 *   handle goes on; but its claims are gone, and alternate setting 0 is selected again.
 * - A device that answers nothing, not even after its reset, keeps the kernel for two minutes, or until it is unplugged.
 *   It is locked as long, so that every look anew at the bus waits too, and the end of a process that is in that reset.
 * - A release selects alternate setting 0 again, for which the kernel gives a silent device 5 s, and locks it as long.
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
  /** A look that nobody waits for any more, and that has not ended. */
  let overdue: Promise<unknown> | null = null;
  const seen = new Seen<WebUsbPort>();
  return {
    name: 'usb',
    tellsOfArrivals: true,
    async list() {
      if (!hasUsb()) throw new Fault('USB_UNAVAILABLE', 'this machine has no USB');
      if (overdue) throw stuckBusFault();
      const present = devicesPresent();
      const stayed = seen.stillThere(present);
      if (stayed) return stayed;
      let devices: Device[] | 'overdue';
      const look = usb.getDevices();
      try {
        devices = await withinWait(look);
      } catch (cause) {
        throw new Fault('USB_UNAVAILABLE', `the USB bus can't be read: ${textOf(cause)}`, { cause });
      }
      if (devices === 'overdue') {
        const over = () => {
          overdue = null;
        };
        overdue = look.then(over, over);
        throw stuckBusFault();
      }
      const ports = devices.flatMap(device => portOf(device) ?? []);
      seen.keep(ports, present);
      return ports;
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

/** How long a reset and a look at the bus are waited for: twice what the kernel gives a standard request. */
const WAIT_MS = 10_000;

async function withinWait<T>(asked: Promise<T>): Promise<T | 'overdue'> {
  let callOff = (): void => undefined;
  const overdue = new Promise<'overdue'>(resolve => {
    callOff = systemClock.after(WAIT_MS, () => resolve('overdue'));
  });
  try {
    return await Promise.race([asked, overdue]);
  } finally {
    callOff();
  }
}

function overdueFault(path: UsbPath): Fault {
  return new Fault('USB_TIMEOUT', `${path}: not back after a reset in ${WAIT_MS / 1000} s`, { facts: { path } });
}

function stuckBusFault(): Fault {
  return new Fault('USB_UNAVAILABLE', `the USB bus has not answered for ${WAIT_MS / 1000} s`, {
    hint: 'a device does not come back from a reset: unplug the one that failed last, or wait two minutes',
  });
}

/** null for a root hub, which hangs on no port. */
function portOf(device: Device): WebUsbPort | null {
  const path = parseUsbPath(`${Number.parseInt(device.bus, 10)}-${device.ports.join('.')}`);
  return path && new WebUsbPort(device, path);
}

/** Something asked of the device that has not ended yet. */
interface InFlight {
  readonly over: Promise<unknown>;
  /** Ends it for whoever waits; the package goes on until its timeout. */
  readonly cut: (fault: Fault) => void;
}

class WebUsbPort implements UsbPort {
  readonly path: UsbPath;
  readonly hub: string;
  readonly instance: string;
  readonly vendorId: number;
  readonly productId: number;
  readonly release: number;
  readonly #device: Device;
  readonly #claimed = new Set<number>();
  readonly #inFlight = new Set<InFlight>();
  /** The package promises no order of what is asked at once. */
  readonly #line = new Line();
  #opened = false;
  /** A reset that nobody waits for any more, and that has not ended: until then nothing can be let go of. */
  #overdue = false;
  #closing: Promise<void> | null = null;

  constructor(device: Device, path: UsbPath) {
    this.#device = device;
    this.path = path;
    this.hub = hubOf(path);
    this.instance = String(device.address);
    this.vendorId = device.vendorId;
    this.productId = device.productId;
    const { deviceVersionMajor: major, deviceVersionMinor: minor, deviceVersionSubminor: sub } = device;
    this.release = (major << 8) | (minor << 4) | sub;
  }

  get serialNumber(): string | null | undefined {
    try {
      return this.#device.serialNumber ?? null;
    } catch {
      return undefined; // it may not be opened, and whoever does so is told why
    }
  }

  get opened(): boolean {
    return this.#opened;
  }

  async open(): Promise<void> {
    await this.#closing;
    if (this.#opened) return;
    if (this.#overdue) throw overdueFault(this.path);
    await this.#ask(() => this.#device.open());
    this.#opened = true;
  }

  close(): Promise<void> {
    this.#opened = false;
    this.#closing ??= this.#letGo().finally(() => {
      this.#closing = null;
    });
    return this.#closing;
  }

  async claimInterface(interfaceNumber: number): Promise<void> {
    if (this.#claimed.has(interfaceNumber)) return;
    await this.#ask(() => this.#device.claimInterface(interfaceNumber));
    this.#claimed.add(interfaceNumber);
  }

  async releaseInterface(interfaceNumber: number): Promise<void> {
    await this.#ask(() => this.#device.releaseInterface(interfaceNumber));
    this.#claimed.delete(interfaceNumber);
  }

  async selectAlternateInterface(interfaceNumber: number, alternateSetting: number): Promise<void> {
    const setup = setInterface(interfaceNumber, alternateSetting);
    const select = () => this.#device.selectAlternateInterface(interfaceNumber, alternateSetting);
    await this.#line.inTurn(() => this.#ask(select, { setup }));
  }

  async controlTransferIn(setup: ControlSetup, length: number, timeoutMs: number): Promise<InResult> {
    const ask = () => transferIn(this.#device, setup, length, timeoutMs);
    const result = await this.#line.inTurn(() => this.#transfer(setup, timeoutMs, ask));
    if (result?.status !== 'ok' || !result.data) return { status: 'stall' };
    const { buffer, byteOffset, byteLength } = result.data;
    return { status: 'ok', data: new Uint8Array(buffer, byteOffset, byteLength) };
  }

  async controlTransferOut(setup: ControlSetup, data: Uint8Array, timeoutMs: number): Promise<OutResult> {
    const ask = () => transferOut(this.#device, setup, data, timeoutMs);
    const result = await this.#line.inTurn(() => this.#transfer(setup, timeoutMs, ask));
    return result?.status === 'ok' ? { status: 'ok', bytesWritten: result.bytesWritten } : { status: 'stall' };
  }

  async touchSerial(): Promise<boolean> {
    const tty = await ttyOf(this.path);
    return tty !== null && (await touch(tty));
  }

  async reset(): Promise<void> {
    const ended = await withinWait(this.#ask(() => this.#device.reset()));
    this.#overdue = ended === 'overdue';
    await this.close();
    if (this.#overdue) throw overdueFault(this.path);
  }

  /** @returns null for a stall */
  async #transfer<T>(setup: ControlSetup, timeoutMs: number, ask: () => Promise<T>): Promise<T | null> {
    if (!this.#opened) throw ioFault(this.path, 'it is not open');
    try {
      return await this.#ask(ask, { setup, timeoutMs });
    } catch (fault) {
      if (!(fault instanceof Fault && fault.code === 'USB_STALL')) throw fault;
      return null;
    }
  }

  #ask<T>(ask: () => Promise<T>, about: About = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const answered = (value: T): void => {
        this.#inFlight.delete(inFlight);
        resolve(value);
      };
      const failed = async (cause: unknown): Promise<void> => {
        const fault = await this.#faultOf(cause, about);
        this.#inFlight.delete(inFlight);
        reject(fault);
      };
      const inFlight: InFlight = { over: begun(ask).then(answered, failed), cut: reject };
      this.#inFlight.add(inFlight);
    });
  }

  async #letGo(): Promise<void> {
    const over = Promise.all([...this.#inFlight].map(each => each.over));
    for (const { cut } of this.#inFlight) cut(ioFault(this.path, 'closed before the device answered'));
    if (!this.#overdue) return over.then(() => this.#release());
    void over.then(async () => {
      await this.#release();
      this.#overdue = false;
    });
  }

  async #release(): Promise<void> {
    const acts = [...this.#claimed].map(claimed => () => this.#device.releaseInterface(claimed));
    this.#claimed.clear();
    for (const act of [...acts, () => this.#device.close()]) {
      // What is closed or gone already has nothing left to let go of.
      await Promise.resolve()
        .then(act)
        .catch(() => undefined);
    }
  }

  async #faultOf(cause: unknown, { setup, timeoutMs }: About): Promise<Fault> {
    const text = textOf(cause);
    const meaning = meaningOf(text);
    switch (meaning) {
      case 'stall':
        if (setup) return stallFault(this.path, setup);
        break;
      case 'timeout':
        if (setup && timeoutMs !== undefined) return timeoutFault(this.path, setup, timeoutMs);
        break;
      case 'gone':
        return goneFault(this.path);
      case 'busy':
        return busyFault(this.path);
      case 'access':
        return new Fault('USB_ACCESS', `${this.path}: this user may not open the device`, {
          facts: { path: this.path },
          cause,
        });
      case 'garbled':
        if (await this.#leavesNow()) return goneFault(this.path);
        break;
      case 'other':
    }
    return new Fault('USB_IO', `${this.path}: ${text}`, { facts: { path: this.path }, cause });
  }

  /** A device whose cable is pulled answers with noise first; the hub says a little later that it has gone. */
  async #leavesNow(): Promise<boolean> {
    if (process.platform !== 'linux') return false;
    const node = `/dev/bus/usb/${this.#device.bus}/${String(this.#device.address).padStart(3, '0')}`;
    for (let waitedMs = 0; existsSync(node); waitedMs += LEAVING_LOOK_MS) {
      if (waitedMs >= LEAVING_MS) return false;
      await sleep(LEAVING_LOOK_MS);
    }
    return true;
  }
}

/** The package throws in either way: at once, or later. */
function begun<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return ask();
  } catch (cause) {
    return Promise.reject(cause instanceof Error ? cause : new Error(String(cause)));
  }
}

const LEAVING_MS = 500;
const LEAVING_LOOK_MS = 50;

/** What was asked, for the fault that it may end in. */
interface About {
  readonly setup?: ControlSetup;
  readonly timeoutMs?: number;
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

/** Texts of nusb 0.2, some with the errno of the system call behind them. In order: the first that fits counts. */
const TEXTS = [
  // An alternate setting that is not in the descriptors is refused by the kernel in the device's stead.
  [/endpoint stalled|alternate setting not found|errno 32\b/, 'stall'],
  [/transfer was cancelled/, 'timeout'],
  [/device (disconnected|not found)|errno (19|108)\b/, 'gone'],
  [/permission denied|errno (1|13)\b/, 'access'],
  [/is busy|errno 16\b/, 'busy'],
  [/hardware fault/, 'garbled'],
] as const;

function meaningOf(text: string): (typeof TEXTS)[number][1] | 'other' {
  return TEXTS.find(([pattern]) => pattern.test(text))?.[1] ?? 'other';
}
