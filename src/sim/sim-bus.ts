import { systemClock, type Clock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import type { UsbPath } from '../core/usb-path.ts';
import { Line } from '../usb/line.ts';
import type { ControlSetup, InResult, OutResult, UsbBus, UsbPort } from '../usb/port.ts';
import { busyFault, goneFault, ioFault, stallFault, timeoutFault } from '../usb/port-faults.ts';
import { DESCRIPTOR, LANGUAGE_EN_US, setInterface, setupPacket } from '../usb/setup-packet.ts';
import { decodeStringDescriptor } from '../usb/usb-descriptors.ts';
import { descriptor, productIdOf, SERIAL_STRING, VENDOR_ID, type PhotonIdentity } from './photon-descriptors.ts';
import { Moment } from './photon-ep0.ts';
import type { Reply } from './photon-request.ts';
import type { RackDevice } from './rack-device.ts';
import type { VirtualRack } from './virtual-rack.ts';

const NOTHING = new Uint8Array(0);

/** The rack in this process as a bus (`--sim`): the same seam as real USB, with nothing in between. */
export function simBus(rack: VirtualRack): UsbBus {
  const clock = rack.clock ?? systemClock;
  const ports = new Set<SimPort>();
  const endings = new Set<() => void>();
  return {
    name: 'sim',
    list() {
      const there = rack.devices.filter(device => device.onBus);
      return Promise.resolve(there.map(device => new SimPort(device, clock, ports)));
    },
    onChange(listener) {
      const end = rack.onChange(listener);
      endings.add(end);
      return () => {
        endings.delete(end);
        end();
      };
    },
    async close() {
      for (const end of endings) end();
      endings.clear();
      for (const port of [...ports]) await port.close();
    },
  };
}

/** As an operating system reads it when the device appears. */
function serialOf(identity: PhotonIdentity): string | null {
  const bytes = descriptor(identity, (DESCRIPTOR.string << 8) | SERIAL_STRING, LANGUAGE_EN_US);
  return bytes ? decodeStringDescriptor(bytes) : null;
}

class SimPort implements UsbPort {
  readonly path: UsbPath;
  readonly hub: string;
  readonly instance: string;
  readonly vendorId = VENDOR_ID;
  readonly productId: number;
  readonly release: number;
  readonly serialNumber: string | null;
  readonly #device: RackDevice;
  readonly #appearance: number;
  readonly #clock: Clock;
  /** The bus's list of open ports. */
  readonly #openPorts: Set<SimPort>;
  readonly #claimed = new Set<number>();
  readonly #line = new Line();
  #giveBack: (() => void) | null = null;
  #closing = new Moment();

  constructor(device: RackDevice, clock: Clock, openPorts: Set<SimPort>) {
    const { identity } = device.photon;
    this.path = device.busId;
    this.hub = device.hub;
    this.instance = String(device.appearance);
    this.productId = productIdOf(identity);
    this.release = identity.release;
    this.serialNumber = serialOf(identity);
    this.#device = device;
    this.#appearance = device.appearance;
    this.#clock = clock;
    this.#openPorts = openPorts;
  }

  get opened(): boolean {
    return this.#giveBack !== null;
  }

  open(): Promise<void> {
    if (this.#giveBack) return Promise.resolve();
    if (!this.#there) return Promise.reject(goneFault(this.path));
    if (!this.#device.letsIn(this.#clock.monotonicMs())) {
      const { path } = this;
      return Promise.reject(new Fault('USB_ACCESS', `${path}: this user may not open the device`, { facts: { path } }));
    }
    this.#giveBack = this.#device.hold();
    if (!this.#giveBack) return Promise.reject(busyFault(this.path));
    this.#closing = new Moment();
    this.#openPorts.add(this);
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#giveBack?.();
    this.#giveBack = null;
    this.#claimed.clear();
    this.#openPorts.delete(this);
    this.#closing.come();
    return Promise.resolve();
  }

  async claimInterface(interfaceNumber: number): Promise<void> {
    await this.#check();
    if (interfaceNumber !== 0) throw ioFault(this.path, `there is no interface ${interfaceNumber}`);
    this.#claimed.add(interfaceNumber);
  }

  async releaseInterface(interfaceNumber: number): Promise<void> {
    await this.#check();
    this.#claimed.delete(interfaceNumber);
  }

  async selectAlternateInterface(interfaceNumber: number, alternateSetting: number): Promise<void> {
    const setup = setInterface(interfaceNumber, alternateSetting);
    const result = await this.controlTransferOut(setup, NOTHING, 5000);
    if (result.status === 'stall') throw stallFault(this.path, setup);
  }

  async controlTransferIn(setup: ControlSetup, length: number, timeoutMs: number): Promise<InResult> {
    const reply = await this.#line.inTurn(() => this.#transfer(setup, 'in', NOTHING, length, timeoutMs));
    return reply === 'stall' ? { status: 'stall' } : { status: 'ok', data: reply };
  }

  async controlTransferOut(setup: ControlSetup, data: Uint8Array, timeoutMs: number): Promise<OutResult> {
    const reply = await this.#line.inTurn(() => this.#transfer(setup, 'out', data, data.length, timeoutMs));
    return reply === 'stall' ? { status: 'stall' } : { status: 'ok', bytesWritten: data.length };
  }

  async reset(): Promise<void> {
    await this.#check();
    await this.#device.photon.busReset();
    await this.close();
  }

  get #there(): boolean {
    return this.#device.onBus && this.#device.appearance === this.#appearance;
  }

  /** Rejects unless the port is open and the device still there. */
  #check(): Promise<void> {
    if (!this.#giveBack) return Promise.reject(ioFault(this.path, 'it is not open'));
    return this.#there ? Promise.resolve() : Promise.reject(goneFault(this.path));
  }

  async #transfer(
    setup: ControlSetup,
    direction: 'in' | 'out',
    data: Uint8Array,
    length: number,
    timeoutMs: number,
  ): Promise<Uint8Array | 'stall'> {
    await this.#check();
    if (setup.recipient === 'interface' && !this.#claimed.has(setup.index & 0xff)) {
      throw ioFault(this.path, `interface ${setup.index & 0xff} is not claimed`);
    }
    const cancel = new Moment();
    const closing = this.#closing;
    const forget = closing.tell(() => cancel.come());
    const callOff = this.#clock.after(timeoutMs, () => cancel.come());
    let reply: Reply;
    try {
      // A copy: the caller may use its buffer again as soon as the transfer has ended on its side.
      reply = await this.#device.photon.control(setupPacket(setup, direction, length), data.slice(), cancel);
    } finally {
      callOff();
      forget();
    }
    switch (reply.kind) {
      case 'ok':
        return reply.data.slice();
      case 'stall':
        return 'stall';
      case 'gone':
        throw goneFault(this.path);
      case 'cancelled': {
        if (closing.came) throw ioFault(this.path, 'it was closed during a transfer');
        throw timeoutFault(this.path, setup, timeoutMs);
      }
    }
  }
}
