import type { Clock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { hubOf, onRack, type UsbPath } from '../core/usb-path.ts';
import type { ControlSetup, InResult, OutResult, UsbPort } from './port.ts';
import { busyFault, goneFault, ioFault, stallFault } from './port-faults.ts';
import { PORT_RESET, setInterface, STANDARD } from './setup-packet.ts';
import { exchange, hangUp, rackName, type RackAddress } from './usbip-dial.ts';
import { encodeImportRequest, OP_STATUS, takeImportReply, type UsbipDevice } from './usbip-operations.ts';
import { UrbLink } from './usbip-urbs.ts';

/** A device that somebody else has just given back may be held for a moment longer. */
const BUSY_PATIENCE_MS = 2000;
const BUSY_PAUSE_MS = 100;
/** What an operating system gives a standard request (USB 2.0, 9.2.6.1). */
const STANDARD_MS = 5000;

const NOTHING = new Uint8Array(0);
const SET_CONFIGURATION_1: ControlSetup = {
  requestType: 'standard',
  recipient: 'device',
  request: STANDARD.setConfiguration,
  value: 1,
  index: 0,
};

export interface UsbipPortOptions {
  readonly rack: RackAddress;
  readonly listed: UsbipDevice;
  readonly clock: Clock;
  /** Told when a connection to the device has begun and ended: the bus closes what is open, and looks again. */
  onOpened(port: UsbPort): void;
  onEnded(port: UsbPort): void;
}

/** A device on a rack: imported when it is opened, each on a connection of its own. */
export class UsbipPort implements UsbPort {
  readonly path: UsbPath;
  readonly hub: string;
  readonly instance: string;
  readonly vendorId: number;
  readonly productId: number;
  readonly release: number;
  /** A rack does not tell it, and whoever opens the device asks for other descriptors too. */
  readonly serialNumber = undefined;
  readonly #options: UsbipPortOptions;
  readonly #claimed = new Set<number>();
  #link: UrbLink | null = null;
  #opening: Promise<void> | null = null;
  /** The connection of an `open` that has not ended yet, so that `close` can cut it short. */
  #fresh: UrbLink | null = null;

  constructor(options: UsbipPortOptions) {
    const { rack, listed } = options;
    this.#options = options;
    this.path = onRack(rackName(rack), listed.busId);
    this.hub = hubOf(this.path);
    this.instance = `${listed.busNumber}:${listed.deviceNumber}`;
    this.vendorId = listed.vendorId;
    this.productId = listed.productId;
    this.release = listed.release;
  }

  get opened(): boolean {
    return this.#link !== null;
  }

  async open(): Promise<void> {
    if (this.#link) return;
    this.#opening ??= this.#import().finally(() => {
      this.#opening = null;
    });
    await this.#opening;
  }

  async close(): Promise<void> {
    // One that is just being opened is cut short; how that ends is the opener's business.
    await this.#fresh?.close();
    await this.#opening?.catch(() => undefined);
    const link = this.#link;
    this.#link = null;
    this.#claimed.clear();
    await link?.close();
  }

  claimInterface(interfaceNumber: number): Promise<void> {
    // USB/IP has no claims: the whole device is ours. The bookkeeping keeps callers honest, as a kernel would.
    return this.#booked(() => this.#claimed.add(interfaceNumber));
  }

  releaseInterface(interfaceNumber: number): Promise<void> {
    return this.#booked(() => this.#claimed.delete(interfaceNumber));
  }

  async selectAlternateInterface(interfaceNumber: number, alternateSetting: number): Promise<void> {
    const setup = setInterface(interfaceNumber, alternateSetting);
    const result = await this.controlTransferOut(setup, NOTHING, STANDARD_MS);
    if (result.status === 'stall') throw stallFault(this.path, setup);
  }

  async controlTransferIn(setup: ControlSetup, length: number, timeoutMs: number): Promise<InResult> {
    const reply = await this.#claimedLink(setup).control(setup, 'in', NOTHING, length, timeoutMs);
    return reply === 'stall' ? { status: 'stall' } : { status: 'ok', data: reply };
  }

  async controlTransferOut(setup: ControlSetup, data: Uint8Array, timeoutMs: number): Promise<OutResult> {
    const reply = await this.#claimedLink(setup).control(setup, 'out', data, data.length, timeoutMs);
    return reply === 'stall' ? { status: 'stall' } : { status: 'ok', bytesWritten: data.length };
  }

  async reset(): Promise<void> {
    const link = this.#openLink();
    const { request, value } = PORT_RESET;
    const setup = { requestType: 'class', recipient: 'other', request, value, index: 1 } as const;
    // Older kernels reset, and then pass the request on to the device, which stalls it: both mean done.
    await link.control(setup, 'out', NOTHING, 0, STANDARD_MS);
    await this.close();
  }

  async #import(): Promise<void> {
    const link = await this.#connect();
    this.#fresh = link;
    try {
      await this.#configure(link);
    } catch (thrown) {
      await link.close();
      throw thrown;
    } finally {
      this.#fresh = null;
    }
    if (!link.alive) throw goneFault(this.path);
    this.#link = link;
  }

  async #connect(): Promise<UrbLink> {
    const { rack, listed, clock } = this.#options;
    const question = encodeImportRequest(listed.busId);
    const giveUpAt = clock.monotonicMs() + BUSY_PATIENCE_MS;
    for (;;) {
      const { answer, socket, rest } = await exchange(rack, question, takeImportReply, clock);
      if (answer.device) {
        const { busNumber, deviceNumber, vendorId, productId } = answer.device;
        if (vendorId !== this.vendorId || productId !== this.productId) {
          await hangUp(socket);
          throw new Fault('USB_GONE', `${this.path}: another device is there now`, { facts: { path: this.path } });
        }
        return new UrbLink({
          rack,
          path: this.path,
          socket,
          rest,
          deviceNumber: ((busNumber << 16) | deviceNumber) >>> 0,
          clock,
          onEnded: () => this.#options.onEnded(this),
        });
      }
      await hangUp(socket);
      switch (answer.status) {
        case OP_STATUS.noDevice:
          throw goneFault(this.path);
        case OP_STATUS.busy:
        case OP_STATUS.notAvailable: // what older versions of usbipd say of a busy one
          if (clock.monotonicMs() >= giveUpAt) throw busyFault(this.path);
          await clock.sleep(BUSY_PAUSE_MS);
          break;
        default:
          throw ioFault(this.path, `the rack refused it with status ${answer.status}`, { status: answer.status });
      }
    }
  }

  /** `usbip bind` takes a device from its driver, which leaves it unconfigured. Told so twice, nothing happens. */
  async #configure(link: UrbLink): Promise<void> {
    this.#options.onOpened(this);
    const configured = await link.control(SET_CONFIGURATION_1, 'out', NOTHING, 0, STANDARD_MS);
    if (configured === 'stall') throw stallFault(this.path, SET_CONFIGURATION_1);
  }

  #openLink(): UrbLink {
    if (!this.#link) throw ioFault(this.path, 'it is not open');
    return this.#link;
  }

  #claimedLink(setup: ControlSetup): UrbLink {
    const link = this.#openLink();
    const wanted = setup.index & 0xff;
    if (setup.recipient === 'interface' && !this.#claimed.has(wanted)) {
      throw ioFault(this.path, `interface ${wanted} is not claimed`);
    }
    return link;
  }

  #booked(book: () => unknown): Promise<void> {
    if (!this.#link) return Promise.reject(ioFault(this.path, 'it is not open'));
    if (!this.#link.alive) return Promise.reject(goneFault(this.path));
    book();
    return Promise.resolve();
  }
}
