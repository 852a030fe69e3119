import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault, toFault } from '../core/errors.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import { enterDfu, identifyNormal } from '../session/normal-mode.ts';
import type { UsbPort } from '../usb/port.ts';
import { duplicate } from './arrivals.ts';

/** From being told until it is there in DFU mode: the reset comes a second later, and a start takes less than that. */
const BACK_MS = 15_000;
const LOOK_EVERY_MS = 100;

export interface SwitchingParts {
  /** `--enter-dfu`: without it nothing is switched, and nobody opened. */
  readonly allowed: boolean;
  readonly clock: Clock;
  /** The row of a device at a path that is yet to be worked on; null where nobody waits for it, or it must be left alone. */
  readonly openRow: (deviceId: DeviceId, path: UsbPath) => ManifestRow | null;
  /** The device in DFU mode at a path, by a look that began after `sinceMs`. */
  readonly find: (path: UsbPath, sinceMs: number) => UsbPort | null | undefined;
  /** Whether a session works at a path: it asks whoever turns up there by itself, and two can't have one device open. */
  readonly isWorkedAt: (path: UsbPath) => boolean;
  /** Told before a device is switched. */
  readonly onSwitch: (deviceId: DeviceId, path: UsbPath) => void;
  /** Told of one that could not be switched. */
  readonly onTrouble: (deviceId: DeviceId, path: UsbPath, fault: Fault) => void;
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
  readonly #underWay = new Set<DeviceId>();
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
    const found = await Promise.all(ports.map(async port => ({ port, deviceId: await this.#whoIs(port) })));
    await Promise.all(
      found.map(async ({ port, deviceId }) => {
        if (deviceId === null) return;
        const twin = found.find(other => other.deviceId === deviceId && other.port !== port)?.port.path ?? null;
        await this.#takeOne(port, deviceId, twin);
      }),
    );
  }

  /** @returns null for one that can't say, and so is nobody of ours */
  async #whoIs(port: UsbPort): Promise<DeviceId | null> {
    const { allowed, clock, isWorkedAt } = this.#p;
    this.#learned.delete(port.path);
    if (isWorkedAt(port.path)) return null;
    if (port.serialNumber === undefined && !allowed) return null;
    return identifyNormal(port, clock).catch(() => null);
  }

  async #takeOne(port: UsbPort, deviceId: DeviceId, twin: UsbPath | null): Promise<void> {
    const { allowed, openRow, drain, onTrouble } = this.#p;
    if (this.#underWay.has(deviceId)) return;
    const row = openRow(deviceId, port.path);
    if (!row) return;
    this.#seen.set(deviceId, { path: port.path, fault: null });
    if (!allowed || drain.aborted) return;
    this.#underWay.add(deviceId);
    try {
      if (twin !== null) throw duplicate(deviceId, twin, port.path);
      if (row.port !== null && row.port !== port.path) {
        throw new Fault('IDENTITY_MISMATCH', `the manifest expects it at ${row.port}, and it hangs at ${port.path}`);
      }
      await this.#switch(port, deviceId);
    } catch (error) {
      const fault = toFault(error);
      if (fault.code === 'BUG') throw fault;
      this.#seen.set(deviceId, { path: port.path, fault });
      onTrouble(deviceId, port.path, fault);
    } finally {
      this.#underWay.delete(deviceId);
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
