import type { MediaResult } from './photon-media.ts';
import type { DeviceRequest, Reply } from './photon-request.ts';

/** A data block on its way into memory, with its absolute address there. */
export interface BlockWrite {
  readonly alternate: number;
  readonly address: number;
  readonly data: Uint8Array;
}

export interface BlockRead {
  readonly alternate: number;
  readonly address: number;
  readonly length: number;
}

/** What a behaviour can do to the device besides answering. */
export interface Grip {
  /**
   * Leaves the bus at once, as if the cable was pulled; what had not reached the flash is lost.
   * @param backInMs when it is there again, in DFU mode; undefined: when somebody plugs it in
   */
  unplug(backInMs?: number): void;
  /** Leaves the bus at once, and is in normal mode when the power is back; what had not reached the flash is lost. */
  cutPower(): void;
  /** Resolves when the host gives up on the transfer under way or resets the bus, or the device is gone. */
  untilGivenUp(): Promise<void>;
}

/**
 * A small behaviour laid on top of a virtual photon. Each hook takes what comes, or passes it on (changed, if it likes)
 * to the behaviours below it and in the end to the device.
 */
export interface Behaviour {
  request?(request: DeviceRequest, pass: () => Promise<Reply>, grip: Grip): Promise<Reply>;
  /** Inside the GETSTATUS that writes, after the time that the write takes and before a bit has changed. */
  write?(block: BlockWrite, pass: (block: BlockWrite) => Promise<MediaResult>, grip: Grip): Promise<MediaResult>;
  read?(wanted: BlockRead, pass: () => Uint8Array | 'hung'): Uint8Array | 'hung';
  /** The host has reset the bus, or the power has come back. */
  reset?(): void;
}
