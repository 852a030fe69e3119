import { isIn, type SetupPacket } from '../usb/setup-packet.ts';
import { ControlChannel, DFU_MODE } from './photon-control-channel.ts';
import type { PhotonIdentity, Platform } from './photon-descriptors.ts';
import type { Flash } from './photon-flash.ts';
import { systemVersionOf } from './photon-modules.ts';
import { DONE, STALL, type DeviceRequest, type Reply } from './photon-request.ts';
import { StandardRequests } from './photon-standard.ts';

/**
 * How a Device OS is told over USB to enter DFU mode. `vendor`: OUT 0x40, bRequest 0x50, wIndex 50. `service`: a request
 * of type 50 over the control channel. Opening the CDC port at 14400 baud, which all of them know, is not played.
 */
export type WayIntoDfu = 'none' | 'vendor' | 'service';

/** Module versions by release, from device-os: system/system-versions.md. */
const RELEASE_0_6_1 = 105;
const RELEASE_0_8_0_RC_1 = 300;

/** @param systemVersion module version of system-part1; 0.7.0 is 207, 1.4.1 is 1403, 2.3.1 is above 2301 */
export function wayIntoDfu(systemVersion: number): WayIntoDfu {
  if (systemVersion < RELEASE_0_6_1) return 'none';
  return systemVersion < RELEASE_0_8_0_RC_1 ? 'vendor' : 'service';
}

/** bRequest of a vendor request: the letter P. */
const VENDOR_REQUEST = 0x50;

export interface NormalModeOptions {
  readonly platform: Platform;
  /** The device ID, as this device writes it. */
  readonly serial: string;
  readonly internal: Flash;
  /** It stalls every way into DFU mode. */
  readonly deaf: boolean;
  /** It was told to enter DFU mode, and does so some time later. Called at most once from one powerOn to the next. */
  enteringDfu(): void;
}

/**
 * A Photon that runs its firmware, as far as a host needs it on the way back into DFU mode: standard requests, and the
 * request that its Device OS knows. Every other request stalls, DFU's among them.
 */
export class NormalMode {
  readonly identity: PhotonIdentity;
  readonly #options: NormalModeOptions;
  readonly #standard: StandardRequests;
  readonly #channel = new ControlChannel(() => this.#enterDfu());
  #way: WayIntoDfu = 'none';
  #entering = false;

  constructor(options: NormalModeOptions) {
    this.#options = options;
    const { platform, serial } = options;
    // Flaws and faults of the serial are the bootloader's: the firmware has descriptors of its own.
    this.identity = { mode: 'normal', platform, release: 0x0250, serial, product: 'photon', flaws: [] };
    this.#standard = new StandardRequests(this.identity, { alternate: 0, reset: () => this.#channel.reset() });
  }

  /** The firmware starts: which one that is, its flash tells. */
  powerOn(): void {
    this.#way = wayIntoDfu(systemVersionOf(this.#options.internal));
    this.#entering = false;
    this.#channel.powerOn();
    this.#standard.powerOn();
  }

  /** The host has reset the bus. */
  reset(): void {
    this.#standard.powerOn();
    this.#channel.reset();
  }

  answer({ setup, data }: DeviceRequest): Reply {
    if ((setup.requestType & 0x7f) !== 0x40) return this.#standard.answer(setup);
    const reply = this.#options.deaf ? STALL : this.#vendor(setup, data);
    return reply.kind === 'ok' && isIn(setup) ? { kind: 'ok', data: reply.data.subarray(0, setup.length) } : reply;
  }

  #vendor(setup: SetupPacket, data: Uint8Array): Reply {
    switch (this.#way) {
      case 'none':
        return STALL;
      case 'vendor':
        if (isIn(setup) || setup.request !== VENDOR_REQUEST || setup.index !== DFU_MODE) return STALL;
        this.#enterDfu();
        return DONE;
      case 'service':
        return this.#channel.answer(setup, data);
    }
  }

  #enterDfu(): void {
    if (this.#entering) return;
    this.#entering = true;
    this.#options.enteringDfu();
  }
}
