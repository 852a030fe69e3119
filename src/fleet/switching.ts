import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault, toFault } from '../core/errors.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import { enterDfu, identifyNormal } from '../session/normal-mode.ts';
import type { UsbPort } from '../usb/port.ts';

/** From being told until it is there in DFU mode: the reset comes a second later, and a start takes less than that. */
const BACK_MS = 15_000;
const LOOK_EVERY_MS = 100;

export interface SwitchingParts {
  /** `--enter-dfu`: without it nothing is switched, and nobody opened. */
  readonly allowed: boolean;
  readonly clock: Clock;
  /** The row of a device that is yet to be worked on; null where nobody waits for it. */
  readonly openRow: (deviceId: DeviceId) => ManifestRow | null;
  /** The device in DFU mode at a path, by a look that began after `sinceMs`. */
  readonly find: (path: UsbPath, sinceMs: number) => UsbPort | null | undefined;
  /** Told before a device is switched. */
  readonly onSwitch: (deviceId: DeviceId, path: UsbPath) => void;
  readonly drain: AbortSignal;
}

/** Where a listed device was seen in normal mode, and why it is not in DFU mode, if that was tried. */
export interface SeenInNormalMode {
  readonly path: UsbPath;
  readonly fault: Fault | null;
}

/** Devices in normal mode: those that the manifest lists are told to start in DFU mode, if that is allowed. */
export class Switching {
  readonly #p: SwitchingParts;
  readonly #seen = new Map<DeviceId, SeenInNormalMode>();
  readonly #learned = new Map<UsbPath, { readonly deviceId: DeviceId; readonly untilMs: number }>();

  constructor(parts: SwitchingParts) {
    this.#p = parts;
  }

  seen(deviceId: DeviceId): SeenInNormalMode | null {
    return this.#seen.get(deviceId) ?? null;
  }

  /** Who a device with an old bootloader is that has just come in DFU mode: the path stays the same, the ID does not show. */
  learnedAt(path: UsbPath): DeviceId | null {
    const learned = this.#learned.get(path);
    return learned && this.#p.clock.monotonicMs() < learned.untilMs ? learned.deviceId : null;
  }

  async take(ports: readonly UsbPort[]): Promise<void> {
    await Promise.all(ports.map(port => this.#takeOne(port)));
  }

  async #takeOne(port: UsbPort): Promise<void> {
    const { allowed, openRow, drain } = this.#p;
    this.#learned.delete(port.path);
    if (port.serialNumber === undefined && !allowed) return;
    const deviceId = await identifyNormal(port).catch(() => null); // it can't say: nobody of ours
    const row = deviceId === null ? null : openRow(deviceId);
    if (!row) return;
    this.#seen.set(row.deviceId, { path: port.path, fault: null });
    if (!allowed || drain.aborted) return;
    try {
      if (row.port !== null && row.port !== port.path) {
        throw new Fault('IDENTITY_MISMATCH', `the manifest expects it at ${row.port}, and it hangs at ${port.path}`);
      }
      await this.#switch(port, row.deviceId);
    } catch (error) {
      const fault = toFault(error);
      if (fault.code === 'BUG') throw fault;
      this.#seen.set(row.deviceId, { path: port.path, fault });
    }
  }

  async #switch(port: UsbPort, deviceId: DeviceId): Promise<void> {
    const { clock, find, onSwitch, drain } = this.#p;
    onSwitch(deviceId, port.path);
    await enterDfu(port, clock);
    const sinceMs = clock.monotonicMs();
    const untilMs = sinceMs + BACK_MS;
    this.#learned.set(port.path, { deviceId, untilMs });
    while (!find(port.path, sinceMs)) {
      if (drain.aborted) return;
      if (clock.monotonicMs() >= untilMs) {
        throw new Fault(
          'ENTER_DFU_LOST',
          `it was told to start in DFU mode, and is not there after ${BACK_MS / 1000} s`,
        );
      }
      await clock.sleep(LOOK_EVERY_MS, drain);
    }
  }
}
