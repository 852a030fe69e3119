import { isIn, STANDARD, type SetupPacket } from '../usb/setup-packet.ts';
import { alternateCount, descriptor, type PhotonIdentity } from './photon-descriptors.ts';
import { DONE, STALL, type Reply } from './photon-request.ts';

/** The driver of the one interface. */
export interface InterfaceDriver {
  /** The alternate setting. */
  alternate: number;
  /** Its configuration has changed. */
  reset(): void;
}

/** Chapter 9 of USB 2.0, as far as a host without endpoints asks for it. All else stalls. */
export class StandardRequests {
  readonly #identity: PhotonIdentity;
  readonly #driver: InterfaceDriver;
  #configuration = 1;

  constructor(identity: PhotonIdentity, driver: InterfaceDriver) {
    this.#identity = identity;
    this.#driver = driver;
  }

  get configured(): boolean {
    return this.#configuration === 1;
  }

  /** The host of the rack has addressed and configured it when anybody here sees it. */
  powerOn(): void {
    this.#configuration = 1;
  }

  answer(setup: SetupPacket): Reply {
    if ((setup.requestType & 0x60) !== 0) return STALL;
    if (!isIn(setup)) return this.#out(setup) ? DONE : STALL;
    const data = this.#in(setup);
    return data ? { kind: 'ok', data: data.subarray(0, setup.length) } : STALL;
  }

  #in({ requestType, request, value, index }: SetupPacket): Uint8Array | undefined {
    switch (request) {
      case STANDARD.getDescriptor:
        return descriptor(this.#identity, value, index);
      case STANDARD.getConfiguration:
        return Uint8Array.of(this.#configuration);
      case STANDARD.getInterface:
        return this.configured && index === 0 ? Uint8Array.of(this.#driver.alternate) : undefined;
      case STANDARD.getStatus:
        return Uint8Array.of((requestType & 0x1f) === 0 ? 1 : 0, 0); // self-powered, no remote wake-up
      default:
        return undefined;
    }
  }

  #out({ request, value, index }: SetupPacket): boolean {
    switch (request) {
      case STANDARD.setConfiguration:
        if (value > 1) return false;
        // The driver is initialised when the configuration changes only: the same one again does nothing.
        if (value !== this.#configuration) this.#driver.reset();
        this.#configuration = value;
        return true;
      case STANDARD.setInterface:
        if (!this.configured || index !== 0 || value >= alternateCount(this.#identity)) return false;
        this.#driver.alternate = value;
        return true;
      case STANDARD.clearFeature:
        return true;
      default:
        return false;
    }
  }
}
