import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import type { Platform, UsbMode } from './photon-descriptors.ts';
import { buildPhoton, makeContent, type FlashContent, type PhotonSpec } from './photon-spec.ts';
import { RackDevice } from './rack-device.ts';
import { strikes, type RackFault } from './rack-faults.ts';
import { freeSocket, simulatedId } from './rack-layout.ts';
import { Returns } from './rack-returns.ts';
import { RackState, type DeviceRecord } from './rack-state.ts';
import type { Departure } from './virtual-photon.ts';

/** What may be said of one device; what is left out comes from the rack. */
export interface DeviceOptions {
  readonly deviceId?: DeviceId;
  readonly platform?: Platform;
  readonly bootloader?: 'new' | 'old';
  /** Hub, from 0; the emptiest one if left out. */
  readonly hub?: number;
  readonly faults?: readonly RackFault[];
}

export interface RackOptions {
  readonly count: number;
  readonly hubs: number;
  /** IDs of the first devices; the rest have made-up ones, always the same. */
  readonly ids?: readonly DeviceId[];
  readonly platform?: Platform;
  readonly bootloader?: 'new' | 'old';
  /** Time of a DCT write in ms. */
  readonly writeMs: number;
  /** From leaving DFU mode until off the bus; 500 as the real one, if left out. */
  readonly leaveMs?: number;
  /** Devices that leave DFU mode start their firmware, and are on the bus in normal mode; if not, they are off it. */
  readonly boots?: boolean;
  /** From leaving the bus by a reset until it is there again, in ms; 300 if left out. */
  readonly bootMs?: number;
  /** From being told in normal mode to enter DFU mode until off the bus; 1000 as the real one, if left out. */
  readonly resetMs?: number;
  /** Module version of the system parts with which devices are made; 207 if left out, which is Device OS 0.7.0. */
  readonly systemVersion?: number;
  /** `blank`: no key is generated and the fields are 0xFF, for slow machines. */
  readonly keys?: 'made' | 'blank';
  /** SPKI DER of the server key on the devices; null: blank. */
  readonly serverKey?: Uint8Array | null;
  /** The address beside it, an IPv4 one; the vendor's, if left out. */
  readonly serverAddress?: { readonly host: string; readonly port: number };
  readonly faults?: readonly RackFault[];
  /** Called when a device of a rack that boots has started: into its firmware, back into DFU mode, or into nothing. */
  readonly onStart?: (device: RackDevice) => void;
  /** A folder where the devices' flash survives this process. Devices that it holds come first, `count` is the total. */
  readonly stateDir?: string;
  readonly clock?: Clock;
}

export interface VirtualRack {
  readonly devices: readonly RackDevice[];
  readonly clock: Clock | undefined;
  /** By bus ID. Throws where there is none: a mistake of the caller. */
  device(busId: string): RackDevice;
  /** In DFU mode, whatever it was before; nothing happens where it is on the bus. */
  plug(busId: string): void;
  unplug(busId: string): void;
  /** By its buttons: a device that is plugged and not in DFU mode appears in DFU mode, at once. */
  enterDfu(busId: string): void;
  add(options?: DeviceOptions): Promise<RackDevice>;
  /** Calls back after a device came or went. @returns what ends it */
  onChange(listener: () => void): () => void;
  /** Power off; resolves when the last sector is on disk. */
  close(): Promise<void>;
}

/**
 * Makes a rack of virtual Photons, in DFU mode, each on a socket of its own.
 * @throws Fault USAGE where a fault names no device, SIM_STATE_INVALID for a folder with other things in it, or one that
 *   another rack uses
 */
export async function createRack(options: RackOptions): Promise<VirtualRack> {
  const state = options.stateDir === undefined ? null : await RackState.open(options.stateDir);
  const rack = new Rack(options, state);
  try {
    await rack.fill();
  } catch (thrown) {
    await state?.close();
    throw thrown;
  }
  return rack;
}

class Rack implements VirtualRack {
  readonly devices: RackDevice[] = [];
  readonly clock: Clock | undefined;
  readonly #options: RackOptions;
  readonly #state: RackState | null;
  readonly #listeners = new Set<() => void>();
  readonly #taken = new Set<string>();
  readonly #returns: Returns;
  #made = 0;
  #numbered = 0;

  constructor(options: RackOptions, state: RackState | null) {
    this.#options = options;
    this.#state = state;
    this.clock = options.clock;
    this.#returns = new Returns(options.clock);
  }

  async fill(): Promise<void> {
    const known = [...(this.#state?.devices ?? [])];
    const records: DeviceRecord[] = [...known];
    for (const record of known) this.#reserve(record);
    while (records.length < this.#options.count) records.push(this.#nextRecord({}));
    for (const fault of this.#options.faults ?? []) {
      if (records.some(record => strikes(fault, record))) continue;
      throw new Fault('USAGE', `fault \`${fault.text}\` names no device of this rack`, {
        hint: `devices are #1 to #${records.length}, or bus IDs such as ${records[0]?.busId ?? '1-1.1'}`,
      });
    }
    const fresh = records.slice(known.length);
    const made = await Promise.all(fresh.map(async record => ({ record, content: await this.#content(record, []) })));
    await this.#state?.add(made);
    for (const record of known) this.#install(record, await this.#load(record.index), []);
    for (const { record, content } of made) this.#install(record, content, []);
  }

  device(busId: string): RackDevice {
    const device = this.devices.find(each => each.busId === busId);
    if (!device) throw new Fault('USAGE', `the rack has no device at ${busId}`);
    return device;
  }

  plug(busId: string): void {
    const device = this.device(busId);
    this.#returns.stop(device);
    if (device.onBus) return;
    device.plugged = true;
    this.#appear(device);
  }

  unplug(busId: string): void {
    const device = this.device(busId);
    this.#returns.stop(device);
    if (!device.plugged) return;
    device.plugged = false;
    device.photon.powerOff();
    device.vanished();
    this.#changed();
  }

  enterDfu(busId: string): void {
    const device = this.device(busId);
    if (!device.plugged || (device.onBus && device.mode === 'dfu')) return;
    this.#returns.stop(device);
    if (device.onBus) {
      device.photon.powerOff();
      device.vanished();
      this.#changed();
    }
    this.#appear(device);
  }

  async add(options: DeviceOptions = {}): Promise<RackDevice> {
    const record = this.#nextRecord(options);
    const content = await this.#content(record, options.faults ?? []);
    await this.#state?.add([{ record, content }]);
    const device = this.#install(record, content, options.faults ?? []);
    this.#changed();
    return device;
  }

  onChange(listener: () => void): () => void {
    const own = () => listener();
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  async close(): Promise<void> {
    for (const device of this.devices) {
      this.#returns.stop(device);
      device.photon.powerOff();
      device.vanished();
    }
    this.#changed();
    this.#listeners.clear();
    await this.#state?.close();
  }

  #appear(device: RackDevice, mode: UsbMode = 'dfu'): void {
    device.mode = mode;
    device.appearance = this.#nextNumber();
    device.photon.powerOn(mode);
    this.#changed();
  }

  #departed(device: RackDevice, spec: PhotonSpec, why: Departure, backInMs: number | undefined): void {
    // A crashed bootloader answers nobody until it is replugged, just like one whose cable was pulled.
    if (why === 'unplugged' || why === 'crashed') device.plugged = false;
    else this.#boot(device, spec, why);
    device.vanished();
    if (backInMs !== undefined) this.#returns.in(backInMs, device, () => this.plug(device.busId));
    this.#changed();
  }

  #boot(device: RackDevice, spec: PhotonSpec, why: 'left' | 'power-cut' | 'reset'): void {
    if (!this.#options.boots) {
      device.mode = 'normal';
      return;
    }
    const mode = why === 'reset' ? 'dfu' : spec.neverBoots ? 'dead' : device.photon.bootsInto;
    device.mode = mode === 'dead' ? 'dead' : 'booting';
    const { onStart, bootMs = 300 } = this.#options;
    if (mode === 'dead') {
      onStart?.(device);
      return;
    }
    this.#returns.in(spec.bootMs ?? bootMs, device, () => {
      this.#appear(device, mode);
      if (why !== 'reset') onStart?.(device); // by itself, and not because it was told to enter DFU mode
    });
  }

  /** As a kernel numbers what it finds, but for the limit of 127 a bus. */
  #nextNumber(): number {
    this.#numbered = (this.#numbered % 0xffff) + 1;
    return this.#numbered;
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #reserve(record: DeviceRecord): void {
    this.#taken.add(record.busId);
    this.#made = Math.max(this.#made, record.index);
  }

  #nextRecord({ deviceId, platform, bootloader, hub, faults = [] }: DeviceOptions): DeviceRecord {
    const index = this.#made + 1;
    const record: DeviceRecord = {
      index,
      busId: freeSocket(this.#taken, this.#options.hubs, hub),
      deviceId: deviceId ?? this.#options.ids?.[index - 1] ?? simulatedId(index),
      platform: platform ?? this.#options.platform ?? 'photon',
      bootloader: bootloader ?? this.#options.bootloader ?? 'new',
      serialCase: index % 2 === 1 ? 'upper' : 'lower',
    };
    this.#reserve(record);
    // As the faults make it: a rack that finds its folder again has the same bootloaders.
    return { ...record, bootloader: this.#spec(record, faults).bootloader };
  }

  #spec(record: DeviceRecord, faults: readonly RackFault[]): PhotonSpec {
    const plain: PhotonSpec = {
      deviceId: record.deviceId,
      platform: record.platform,
      bootloader: record.bootloader,
      serialCase: record.serialCase,
      writeMs: this.#options.writeMs,
      leaveMs: this.#options.leaveMs,
      keys: this.#options.keys ?? 'made',
      idInDct: true,
      systemParts: 'whole',
      serverKey: this.#options.serverKey,
      systemVersion: this.#options.systemVersion,
      resetMs: this.#options.resetMs,
      serverAddress: this.#options.serverAddress,
    };
    return this.#of(record, faults).reduce((spec, { effect }) => effect.change?.(spec) ?? spec, plain);
  }

  #of(record: DeviceRecord, faults: readonly RackFault[]): RackFault[] {
    return [...(this.#options.faults ?? []).filter(fault => strikes(fault, record)), ...faults];
  }

  #content(record: DeviceRecord, faults: readonly RackFault[]): Promise<FlashContent> {
    return makeContent(this.#spec(record, faults));
  }

  async #load(index: number): Promise<FlashContent> {
    if (!this.#state) throw new Fault('BUG', 'there is no state folder to load from');
    return await this.#state.load(index);
  }

  #install(record: DeviceRecord, content: FlashContent, faults: readonly RackFault[]): RackDevice {
    const { index, busId } = record;
    const keep = this.#state && {
      internal: this.#state.keeper(index, 'internal'),
      serial: this.#state.keeper(index, 'serial'),
    };
    const spec = this.#spec(record, faults);
    const photon = buildPhoton(spec, content, {
      behaviours: this.#of(record, faults).flatMap(({ effect }) => effect.behaviour?.() ?? []),
      clock: this.clock,
      keep: keep ?? undefined,
      onDeparture: (why, backInMs) => this.#departed(device, spec, why, backInMs),
    });
    const device = new RackDevice(index, busId, photon, this.#nextNumber(), spec.lateAccessMs);
    this.devices.push(device);
    return device;
  }
}
