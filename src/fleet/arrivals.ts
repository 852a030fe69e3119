import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault, isGone, toFault } from '../core/errors.ts';
import type { UsbPath } from '../core/usb-path.ts';
import type { ManifestRow } from '../manifest/manifest.ts';
import { identifyPort, isToldByBus } from '../session/identify-port.ts';
import type { DfuDevice } from '../session/run-session.ts';
import type { UsbPort } from '../usb/port.ts';
import { Asked } from './asked.ts';
import type { Greeting } from './bus-watch.ts';
import { matchRow } from './match-row.ts';
import type { Match, RowIndex } from './match-row.ts';
import type { FleetOptions } from './options.ts';
import type { DeviceQueues } from './queues.ts';
import type { Roster } from './roster.ts';

/** How long devices that tell who they are wait for the others of their look, so that two with one ID are found. */
const DUPLICATE_WAIT_MS = 2000;

export interface ArrivalsParts {
  readonly options: FleetOptions;
  /** The rows of `options`. */
  readonly index: RowIndex;
  readonly clock: Clock;
  readonly queues: DeviceQueues;
  readonly roster: Roster;
  readonly isPresent: (path: UsbPath) => boolean;
  /** The device at the path is to be told as an arrival once more. */
  readonly forget: (path: UsbPath) => void;
  readonly isClosed: () => boolean;
  /** A device that is exactly one row's; `opened`: it had to be opened to be asked, and still is. */
  readonly begin: (row: ManifestRow, port: UsbPort, opened: DfuDevice | null) => void;
  readonly isWorkedOn: (deviceId: DeviceId) => boolean;
  /** The device that is being worked on at a path. */
  readonly workedAt: (path: UsbPath) => UsbPort | null;
  /** Who was told at this path to start in DFU mode a moment ago. */
  readonly learnedAt: (path: UsbPath) => DeviceId | null;
  /** Another device claims the ID of one that is being worked on. @returns false where none is */
  readonly twinOf: (deviceId: DeviceId, other: UsbPath) => boolean;
}

/** Finds out who came: one row's device, a stranger, or one that is not what it should be, which is left alone. */
export class Arrivals {
  readonly #p: ArrivalsParts;
  readonly #index: RowIndex;
  readonly #seen = new Map<DeviceId, UsbPath>();
  readonly #twins = new Set<DeviceId>();
  readonly #asked: Asked;
  /** Those that are being asked just now. */
  readonly #asking = new Map<UsbPath, UsbPort>();
  #identified: Promise<unknown> = Promise.resolve();
  /** Devices that were opened to be asked, and wait for their turn as they are. */
  #keptOpen = 0;
  /** Devices that could not be asked who they are. */
  unidentified = 0;
  /** Monotonic time of the last arrival that was worth waiting for. */
  lastMs: number;

  constructor(parts: ArrivalsParts) {
    this.#p = parts;
    this.#index = parts.index;
    this.#asked = new Asked(parts.clock);
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

  /** Somebody is worth waiting for: one of ours was told to start in DFU mode. */
  expect(): void {
    this.lastMs = this.#p.clock.monotonicMs();
  }

  /** What is to be done with a device that is on a bus and was not there at the last look. */
  greet(port: UsbPort): Greeting {
    const inHand = this.#asking.get(port.path) ?? this.#p.workedAt(port.path);
    if (inHand?.instance === port.instance) return 'known';
    if (isToldByBus(port)) return 'take'; // nothing is opened, and nobody disturbed
    return inHand !== null || this.#asked.isPausing(port) ? 'later' : 'take';
  }

  async take(ports: readonly UsbPort[]): Promise<void> {
    const { clock, queues } = this.#p;
    // One that was asked already puts off the end of the run only where it has turned into one of ours.
    if (!ports.every(port => this.#asked.knows(port))) this.lastMs = clock.monotonicMs();
    for (const port of ports) this.#asking.set(port.path, port);
    const ready: (() => void)[] = [];
    const ask = async (port: UsbPort): Promise<void> => {
      const start = await queues.run(port.hub, () => this.#identify(port)).finally(() => this.#askedAlready(port));
      if (start) ready.push(start);
    };
    const asked = Promise.all(ports.map(ask));
    this.#identified = Promise.all([this.#identified, asked]);
    let callOff = (): void => undefined;
    const patience = new Promise<void>(resolve => (callOff = clock.after(DUPLICATE_WAIT_MS, resolve)));
    await Promise.race([asked, patience]);
    callOff();
    for (const start of ready.splice(0)) start();
    await asked;
    for (const start of ready.splice(0)) start();
  }

  /** @returns how to begin with the device, or null where it is left alone */
  async #identify(port: UsbPort): Promise<(() => void) | null> {
    if (this.#p.isClosed()) return null;
    const { match, device } = await this.#match(port);
    let row: ManifestRow | null = null;
    try {
      row = await this.#act(match, port);
    } finally {
      if (!row) await device?.close();
    }
    if (!row) return null;
    const begun = row;
    const opened = await this.#kept(device);
    return () => {
      if (opened) this.#keptOpen -= 1;
      if (this.#isToBegin(begun)) this.#p.begin(begun, port, opened);
      else void opened?.close();
    };
  }

  /** A device that will be worked on at once stays open; of those that wait for their turn only so many. */
  async #kept(device: DfuDevice | null): Promise<DfuDevice | null> {
    if (!device) return null;
    if (this.#keptOpen >= this.#p.options.concurrency) {
      await device.close();
      return null;
    }
    this.#keptOpen += 1;
    return device;
  }

  /** Does what is to be done about who came. @returns the row whose device may be begun with */
  async #act(match: Match, port: UsbPort): Promise<ManifestRow | null> {
    const { options, clock, roster } = this.#p;
    const isNews = this.#asked.note(port, whoIs(match));
    if (match.kind !== 'stranger' && roster.isOpen(match.row)) this.lastMs = clock.monotonicMs();
    switch (match.kind) {
      case 'stranger':
        if (match.fault?.code === 'USB_BUSY') this.#p.forget(port.path); // whoever holds it will give it back
        if (!isNews) return null;
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

  #askedAlready(port: UsbPort): void {
    if (this.#asking.get(port.path) === port) this.#asking.delete(port.path);
  }

  #whyStranger(deviceId: DeviceId | null): string {
    const isLeftOut = deviceId !== null && this.#p.options.leftOut.has(deviceId);
    return isLeftOut ? 'left out by --only or --only-compromised' : 'not in the manifest';
  }

  async #match(port: UsbPort): Promise<{ match: Match; device: DfuDevice | null }> {
    const { clock, options } = this.#p;
    try {
      const { evidence, device } = await identifyPort(port, clock, options.drain);
      return { match: matchRow(port.path, evidence, this.#index, this.#p.learnedAt(port.path)), device };
    } catch (error) {
      const fault = toFault(error);
      const row = this.#index.byPort.get(port.path);
      if (!isGone(error)) this.unidentified += 1;
      const match: Match =
        row && !isGone(error)
          ? { kind: 'conflict', row, deviceId: null, fault }
          : { kind: 'stranger', deviceId: null, fault };
      return { match, device: null };
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

  /** Two devices with one ID: neither is worked on. @returns the row, unless that is so */
  async #claim(row: ManifestRow, port: UsbPort): Promise<ManifestRow | null> {
    const { deviceId } = row;
    const other = this.#seen.get(deviceId) ?? port.path;
    const twin = this.#isTwin(deviceId, deviceId, port);
    this.#seen.set(deviceId, port.path);
    if (!twin) return this.#isToBegin(row) ? row : null;
    await this.#settleTwins(row, other, port.path);
    return null;
  }

  #isToBegin(row: ManifestRow): boolean {
    return this.#p.roster.isOpen(row) && !this.#twins.has(row.deviceId);
  }
}

function whoIs(match: Match): string {
  if (match.kind === 'row') return match.row.deviceId;
  return `${match.kind} ${match.deviceId ?? ''} ${match.fault?.code ?? ''}`;
}

export function duplicate(deviceId: DeviceId, one: UsbPath, other: UsbPath): Fault {
  return new Fault('IDENTITY_DUPLICATE', `two devices say that they are ${deviceId}: at ${one} and at ${other}`, {
    facts: { path: other, one },
  });
}
