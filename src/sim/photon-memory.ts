import type { Clock } from '../core/clock.ts';
import type { Behaviour, BlockWrite, Grip } from './photon-behaviour.ts';
import { DctStore } from './photon-dct.ts';
import type { Platform, Product } from './photon-descriptors.ts';
import type { Moment } from './photon-ep0.ts';
import { Flash } from './photon-flash.ts';
import { dctMedia, flashMedia, internalMedia, type Media, type MediaResult, type PartWatch } from './photon-media.ts';
import { systemPartsWhole } from './photon-modules.ts';
import type { PhotonRecord } from './photon-record.ts';

export interface MemoryOptions {
  readonly platform: Platform;
  readonly bootloader: 'new' | 'old';
  readonly product: Product;
  readonly internal: Flash;
  readonly serialFlash: Flash;
  /** Time that a DCT block takes, in ms; a block of plain flash takes an eighth, an erase as much. */
  readonly writeMs: number;
  readonly behaviours: readonly Behaviour[];
  readonly clock: Clock;
  readonly record: PhotonRecord;
}

/** The transfer in which the memory is touched. */
export interface Serving {
  readonly off: Moment;
  readonly offSignal: AbortSignal;
  readonly grip: Grip;
}

/** Sixteen bytes of their own, as ST's bootloader shows them. */
function optionBytes(): Flash {
  return new Flash([{ address: 0x1fffc000, size: 16 }], new Map());
}

/** What lies behind the alternate settings, with the time that it takes and the behaviours laid on top. */
export class PhotonMemory {
  readonly dct: DctStore;
  readonly #options: MemoryOptions;
  readonly #watch: PartWatch = { part2Erased: false, changed: false };
  readonly #optionBytes = optionBytes();
  #reachable = true;

  constructor(options: MemoryOptions) {
    this.#options = options;
    this.dct = new DctStore(options.internal);
  }

  powerOn(): void {
    const { bootloader, internal, platform } = this.#options;
    this.#watch.part2Erased = false;
    this.#watch.changed = false;
    // The bootloader binds to the system firmware once, at start: flashing the parts helps after a reset only.
    this.#reachable = bootloader === 'old' || systemPartsWhole(internal, platform);
  }

  media(alternate: number): Media {
    const { internal, serialFlash, record, product } = this.#options;
    if (product === 'other') return flashMedia(alternate === 1 ? this.#optionBytes : internal, 0);
    if (alternate === 2) return flashMedia(serialFlash, 0);
    if (alternate !== 1) return internalMedia(internal, this.#watch);
    return dctMedia(this.dct, {
      reachable: this.#reachable,
      watch: this.#watch,
      onEarly: () => record.violation('the DCT is touched after a system part was changed, before a reset'),
      onDestroyed: (offset, length) =>
        record.violation(`DCT write of ${length} bytes at ${offset} ends in the version block: DCT destroyed`),
    });
  }

  async write(block: BlockWrite, serving: Serving): Promise<MediaResult> {
    const { writeMs, behaviours, record } = this.#options;
    await this.#takeTime(block.alternate === 1 ? writeMs : writeMs / 8, serving);
    let pass = async (changed: BlockWrite): Promise<MediaResult> => {
      if (serving.off.came) return 'failed';
      record.write(changed.alternate);
      return await this.#kept(this.media(changed.alternate).write(changed.address, changed.data));
    };
    for (const behaviour of behaviours) {
      const below = pass;
      pass = changed => behaviour.write?.(changed, below, serving.grip) ?? below(changed);
    }
    return await pass(block);
  }

  async erase(alternate: number, address: number, serving: Serving): Promise<MediaResult> {
    if (alternate !== 1) await this.#takeTime(this.#options.writeMs, serving);
    if (serving.off.came) return 'failed';
    if (alternate !== 1) this.#options.record.erased.push(address);
    return await this.#kept(this.media(alternate).erase(address));
  }

  read(alternate: number, address: number, length: number): Uint8Array | 'hung' {
    let pass = () => this.media(alternate).read(address, length);
    for (const behaviour of this.#options.behaviours) {
      const below = pass;
      pass = () => behaviour.read?.({ alternate, address, length }, below) ?? below();
    }
    return pass();
  }

  /** What could not be kept on disk has not been written: the device says so, and the rack's owner finds the reason. */
  async #kept(work: Promise<MediaResult>): Promise<MediaResult> {
    try {
      return await work;
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      this.#options.record.violation(`the sector could not be kept in the state folder: ${why}`);
      return 'failed';
    }
  }

  async #takeTime(ms: number, { offSignal }: Serving): Promise<void> {
    if (ms > 0) await this.#options.clock.sleep(ms, offSignal);
  }
}
