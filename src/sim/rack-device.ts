import type { DeviceId } from '../core/device-id.ts';
import { hubOf, type UsbPath } from '../core/usb-path.ts';
import type { VirtualPhoton } from './virtual-photon.ts';

/**
 * `dfu`: in DFU mode. `normal`: it runs its firmware; on the bus if the rack's devices boot, else off it, as a Photon with
 * its USB off. `booting`: off the bus, on its way into one of the two. `dead`: off the bus, and nothing runs on it.
 */
export type DeviceMode = 'dfu' | 'normal' | 'booting' | 'dead';

/** One socket of the rack and the device in it. */
export class RackDevice {
  /** From 1, in the order in which the devices were made. */
  readonly index: number;
  /** Such as `1-2.3`. */
  readonly busId: UsbPath;
  readonly hub: string;
  /** The ID that it answers with. */
  readonly deviceId: DeviceId;
  readonly photon: VirtualPhoton;
  plugged = true;
  mode: DeviceMode = 'dfu';
  /** Its number on the bus, a new one each time it appears: a handle of an earlier appearance is of no use. */
  appearance: number;
  #holder: symbol | null = null;
  readonly #lateAccessMs: number;
  #firstTry: { readonly appearance: number; readonly ms: number } | null = null;

  /** @param lateAccessMs how long nobody may open it, from the first try after each appearance on */
  constructor(index: number, busId: UsbPath, photon: VirtualPhoton, appearance: number, lateAccessMs = 0) {
    this.index = index;
    this.busId = busId;
    this.hub = hubOf(busId);
    this.deviceId = photon.deviceId;
    this.photon = photon;
    this.appearance = appearance;
    this.#lateAccessMs = lateAccessMs;
  }

  get onBus(): boolean {
    return this.photon.onBus;
  }

  get held(): boolean {
    return this.#holder !== null;
  }

  /**
   * Asked before it is held: whether the host's users may open it yet.
   * @param monotonicMs now
   */
  letsIn(monotonicMs: number): boolean {
    if (this.#lateAccessMs === 0) return true;
    if (this.#firstTry?.appearance !== this.appearance) {
      this.#firstTry = { appearance: this.appearance, ms: monotonicMs };
    }
    return monotonicMs - this.#firstTry.ms >= this.#lateAccessMs;
  }

  /** Takes it for one host program. @returns what gives it back, or null while another one holds it */
  hold(): (() => void) | null {
    if (this.#holder) return null;
    const holder = Symbol(this.busId);
    this.#holder = holder;
    return () => {
      if (this.#holder === holder) this.#holder = null;
    };
  }

  /** For the rack: the device has left the bus, and nobody holds what is not there. */
  vanished(): void {
    this.#holder = null;
  }
}
