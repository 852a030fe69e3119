import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import type { Behaviour } from './photon-behaviour.ts';
import type { DescriptorFlaw, Platform, Product } from './photon-descriptors.ts';
import { Flash, INTERNAL_SECTORS, SERIAL_SECTORS, type KeepSector } from './photon-flash.ts';
import { dctImage, defaultServerKey, type KeyKind, type ServerAddress } from './photon-image.ts';
import {
  brokenSystemPart,
  FACTORY_SYSTEM_VERSION,
  factoryImage,
  SYSTEM_PART_1,
  SYSTEM_PART_2,
} from './photon-modules.ts';
import { VirtualPhoton, type Departure } from './virtual-photon.ts';

/** A virtual Photon in words: what it is, what its flash holds when it is made, and what ails it. */
export interface PhotonSpec {
  readonly deviceId: DeviceId;
  readonly platform: Platform;
  readonly bootloader: 'new' | 'old';
  /** iSerialNumber; undefined: what such a bootloader says; null: none. */
  readonly serial?: string | null;
  /** Newer bootloaders write the ID in upper or in lower case, by their version. */
  readonly serialCase: 'upper' | 'lower';
  readonly product?: Product;
  readonly descriptorFlaws?: readonly DescriptorFlaw[];
  readonly startState?: number;
  readonly leaveMs?: number | undefined;
  readonly writeMs: number;
  /** How long a host may not open it, from its first try on: what udev takes to let a user in. */
  readonly lateAccessMs?: number;
  // on a rack whose devices boot
  /** From leaving the bus by a reset until it is there again, in ms; undefined: as the rack says. */
  readonly bootMs?: number | undefined;
  /** From being told to enter DFU mode until the reset, in ms. The real one: 1000. */
  readonly resetMs?: number | undefined;
  /** Once it has left DFU mode, it is never on the bus again. */
  readonly neverBoots?: boolean;
  /** In normal mode it stalls every way into DFU mode. */
  readonly deaf?: boolean;
  // what the flash holds, when the device is made
  readonly keys: KeyKind;
  readonly idInDct: boolean;
  readonly systemParts: 'whole' | 'broken';
  /** Module version of both system parts; the factory's if left out. */
  readonly systemVersion?: number | undefined;
  /** SPKI DER; null: blank; undefined: one made for this process. */
  readonly serverKey?: Uint8Array | null | undefined;
  readonly serverAddress?: ServerAddress | undefined;
}

/** Sectors by address that differ from the factory's, for each of the two memories. */
export interface FlashContent {
  readonly internal: ReadonlyMap<number, Uint8Array>;
  readonly serial: ReadonlyMap<number, Uint8Array>;
}

/** Every Photon with a bootloader of 0.5.5 or older has this serial. */
const OLD_SERIAL = '00000000010C';

/** What the flash of such a device holds when it is made. Takes the time of one RSA-1024 key. */
export async function makeContent(spec: PhotonSpec): Promise<FlashContent> {
  if (spec.product === 'other') return { internal: new Map(), serial: new Map() };
  const blank = spec.keys === 'blank';
  const serverKey = spec.serverKey === undefined ? (blank ? null : await defaultServerKey()) : spec.serverKey;
  const { deviceId, keys, idInDct, serverAddress } = spec;
  const internal = await dctImage({ deviceId, keys, idInDct, serverKey, serverAddress });
  const { platform, systemVersion = FACTORY_SYSTEM_VERSION } = spec;
  if (systemVersion !== FACTORY_SYSTEM_VERSION) {
    for (const address of [SYSTEM_PART_1, SYSTEM_PART_2]) {
      const part = factoryImage(platform, systemVersion).get(address);
      if (part) internal.set(address, part);
    }
  }
  if (spec.systemParts === 'broken') internal.set(SYSTEM_PART_2, brokenSystemPart(platform, systemVersion));
  return { internal, serial: new Map() };
}

export interface PhotonSetting {
  readonly behaviours?: readonly Behaviour[];
  readonly clock?: Clock | undefined;
  readonly keep?: { readonly internal: KeepSector; readonly serial: KeepSector } | undefined;
  /** @param backInMs when it comes back by itself; undefined: never */
  onDeparture?(why: Departure, backInMs: number | undefined): void;
}

export function buildPhoton(spec: PhotonSpec, content: FlashContent, setting: PhotonSetting = {}): VirtualPhoton {
  const { deviceId, platform, bootloader, product = 'photon' } = spec;
  const ownSerial = spec.serialCase === 'upper' ? deviceId.toUpperCase() : deviceId;
  const serial = spec.serial === undefined ? (bootloader === 'old' ? OLD_SERIAL : ownSerial) : spec.serial;
  return new VirtualPhoton({
    deviceId,
    platform,
    bootloader,
    serial,
    normalSerial: ownSerial,
    product,
    descriptorFlaws: spec.descriptorFlaws,
    internal: new Flash(
      INTERNAL_SECTORS,
      product === 'other' ? content.internal : new Map([...factoryImage(platform), ...content.internal]),
      setting.keep?.internal,
    ),
    serialFlash: new Flash(SERIAL_SECTORS, content.serial, setting.keep?.serial),
    writeMs: spec.writeMs,
    leaveMs: spec.leaveMs,
    resetMs: spec.resetMs,
    deaf: spec.deaf,
    startState: spec.startState,
    behaviours: setting.behaviours,
    clock: setting.clock,
    onDeparture: (why, backInMs) => setting.onDeparture?.(why, backInMs),
  });
}
