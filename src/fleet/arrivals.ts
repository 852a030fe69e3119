import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault, isGone, toFault } from '../core/errors.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import { identifyPort } from '../session/identify-port.ts';
import type { UsbPort } from '../usb/port.ts';
import { indexRows, matchRow } from './match-row.ts';
import type { Match, RowIndex } from './match-row.ts';
import type { FleetOptions } from './options.ts';
import type { DeviceQueues } from './queues.ts';
import type { Roster } from './roster.ts';

/** How long devices that tell who they are wait for the others of their look, so that two with one ID are found. */
const DUPLICATE_WAIT_MS = 2000;

export interface ArrivalsParts {
  readonly options: FleetOptions;
  readonly clock: Clock;
  readonly queues: DeviceQueues;
  readonly roster: Roster;
  readonly isPresent: (path: UsbPath) => boolean;
  readonly isClosed: () => boolean;
  /** A device that is exactly one row's. */
  readonly begin: (row: ManifestRow, port: UsbPort) => void;
  readonly isWorkedOn: (deviceId: DeviceId) => boolean;
  /** Another device claims the ID of one that is being worked on. @returns false where none is */
  readonly twinOf: (deviceId: DeviceId, other: UsbPath) => boolean;
}

/** Finds out who came: one row's device, a stranger, or one that is not what it should be, which is left alone. */
export class Arrivals {
  readonly #p: ArrivalsParts;
  readonly #index: RowIndex;
  readonly #seen = new Map<DeviceId, UsbPath>();
  readonly #twins = new Set<DeviceId>();
  #identified: Promise<unknown> = Promise.resolve();
  /** Devices that could not be asked who they are. */
  unidentified = 0;
  /** Monotonic time of the last arrival that was worth waiting for. */
  lastMs: number;

  constructor(parts: ArrivalsParts) {
    this.#p = parts;
    this.#index = indexRows(parts.options.rows);
    this.lastMs = parts.clock.monotonicMs();
  }

  /** Where a listed device was seen last, if it was. */
  pathOf(deviceId: DeviceId): UsbPath | null {
    return this.#seen.get(deviceId) ?? null;
  }

  /** Resolves when every device that has come so far was asked who it is. */
  async identified(): Promise<void> {
    await this.#identified;
  }

  async take(ports: readonly UsbPort[]): Promise<void> {
    const { clock, queues } = this.#p;
    this.lastMs = clock.monotonicMs();
    const ready: (() => void)[] = [];
    const ask = async (port: UsbPort): Promise<void> => {
      const start = await queues.run(port.hub, () => this.#identify(port));
      if (start) ready.push(start);
    };
    const asked = Promise.all(ports.map(ask));
    this.#identified = Promise.all([this.#identified, asked]);
    const patience = new AbortController();
    await Promise.race([asked, clock.sleep(DUPLICATE_WAIT_MS, patience.signal)]);
    patience.abort();
    for (const start of ready.splice(0)) start();
    await asked;
    for (const start of ready.splice(0)) start();
  }

  /** @returns how to begin with the device, or null where it is left alone */
  async #identify(port: UsbPort): Promise<(() => void) | null> {
    const { options, clock, roster, isClosed } = this.#p;
    if (isClosed()) return null;
    const match = await this.#match(port);
    switch (match.kind) {
      case 'stranger':
        options.observer({
          type: 'stranger',
          ts: clock.now(),
          path: port.path,
          deviceId: match.deviceId,
          code: match.fault?.code ?? null,
          message: `${match.fault?.message ?? this.#whyStranger(match.deviceId)}; left alone`,
        });
        return null;
      case 'conflict':
        if (this.#isTwin(match.row.deviceId, match.deviceId, port)) {
          const other = this.#seen.get(match.row.deviceId) ?? port.path;
          await this.#settleTwins(match.row, other, port.path);
        } else if (!this.#p.isWorkedOn(match.row.deviceId)) {
          await roster.settleFault(match.row, port.path, match.fault);
        }
        return null;
      case 'row':
        return this.#claim(match.row, port);
    }
  }

  #whyStranger(deviceId: DeviceId | null): string {
    const isLeftOut = deviceId !== null && this.#p.options.leftOut.has(deviceId);
    return isLeftOut ? 'not named by --only' : 'not in the manifest';
  }

  async #match(port: UsbPort): Promise<Match> {
    const { clock, options } = this.#p;
    try {
      const evidence = await identifyPort(port, clock, options.drain);
      return matchRow(port.path, evidence, this.#index);
    } catch (error) {
      const fault = toFault(error);
      const row = this.#index.byPort.get(port.path);
      if (!isGone(error)) this.unidentified += 1;
      return row && !isGone(error)
        ? { kind: 'conflict', row, deviceId: null, fault }
        : { kind: 'stranger', deviceId: null, fault };
    }
  }

  /** Whether another device that says the same of itself is still on the bus. */
  #isTwin(rowsId: DeviceId, ownId: DeviceId | null, port: UsbPort): boolean {
    const other = this.#seen.get(rowsId);
    return ownId === rowsId && other !== undefined && other !== port.path && this.#p.isPresent(other);
  }

  async #settleTwins(row: ManifestRow, one: UsbPath, other: UsbPath): Promise<void> {
    if (this.#p.twinOf(row.deviceId, other)) return; // its session says so, when it has come to its end
    this.#twins.add(row.deviceId);
    await this.#p.roster.settleFault(row, other, duplicate(row.deviceId, one, other));
  }

  /** Two devices with one ID: neither is worked on. */
  async #claim(row: ManifestRow, port: UsbPort): Promise<(() => void) | null> {
    const { roster, begin } = this.#p;
    const { deviceId } = row;
    const other = this.#seen.get(deviceId) ?? port.path;
    const twin = this.#isTwin(deviceId, deviceId, port);
    this.#seen.set(deviceId, port.path);
    if (twin) {
      await this.#settleTwins(row, other, port.path);
      return null;
    }
    return () => {
      if (roster.isOpen(row) && !this.#twins.has(deviceId)) begin(row, port);
    };
  }
}

export function duplicate(deviceId: DeviceId, one: UsbPath, other: UsbPath): Fault {
  return new Fault('IDENTITY_DUPLICATE', `two devices say that they are ${deviceId}: at ${one} and at ${other}`, {
    facts: { path: other, one },
  });
}
