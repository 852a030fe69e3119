import type { DeviceId } from './device-id.ts';

/* What the record knows of the firmware on a device. */

/** `wrong-header`: none that fits the slot. */
export type ModuleState = 'whole' | 'wrong-crc' | 'wrong-header' | 'empty';

/** A firmware module as it was seen in a slot; what is not known of it is null. `sha256` is of the module with its CRC. */
export interface ModuleRecord {
  /** `system-part1`, `system-part2`, `user-part`. */
  readonly slot: string;
  readonly state: ModuleState;
  readonly version: number | null;
  readonly function: number | null;
  readonly platform: string | null;
  readonly sha256: string | null;
}

export interface SeenModules {
  readonly deviceId: DeviceId;
  readonly attemptId: number;
  readonly modules: readonly ModuleRecord[];
  readonly at: number;
}

/** A module that is to be on a device. */
export interface WantedRecord {
  readonly slot: string;
  readonly version: number;
  readonly sha256: string;
}

export interface NewFlash {
  readonly deviceId: DeviceId;
  readonly attemptId: number;
  readonly wanted: readonly WantedRecord[];
  readonly at: number;
}

/**
 * A flashing that has not ended, so that the device is between parts (`endedAs` null); or the newest one, of which system parts
 * were written: `endedAs` says where the device was on the bus then, and under which number.
 */
export interface OpenFlash {
  readonly flashId: number;
  readonly wanted: readonly WantedRecord[];
  readonly endedAs: string | null;
}

/** All that was wanted is on the device, every byte; `modules` is what was seen there then. */
export interface EndedFlash {
  readonly flashId: number;
  readonly attemptId: number;
  /** Where the device has to start anew; null where no system part was written. */
  readonly endedAs: string | null;
  readonly modules: readonly ModuleRecord[];
  readonly at: number;
}
