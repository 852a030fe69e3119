import { expect, vi } from 'vitest';
import { breaches, type Witness } from './audit.ts';
import type { Station } from './station.ts';

const WAIT_RESET = 8;

/** A device that has been told to leave is off the bus. */
export async function hasLeft(station: Pick<Station, 'rack'>, index: number): Promise<void> {
  const device = station.rack.devices[index]!;
  await vi.waitUntil(() => !device.onBus || device.photon.dfuState !== WAIT_RESET, { interval: 1, timeout: 240_000 });
}

/** @param firstKeys fingerprints of the keys that were there before anything began, by index; none: blank devices */
export async function witnessesOf(station: Station, firstKeys: readonly (string | null)[] = []): Promise<Witness[]> {
  const witnesses: Witness[] = [];
  for (const [index, { deviceId }] of station.rack.devices.entries()) {
    await hasLeft(station, index);
    witnesses.push({
      deviceId,
      dct: await station.dct(index),
      firstKey: firstKeys[index] ?? null,
      told: station.cloud.keysOf(deviceId).map(({ fingerprint }) => fingerprint),
      maxInFlight: station.cloud.maxInFlight(deviceId),
    });
  }
  return witnesses;
}

/** The promises of the record hold, as flash and the cloud's log bear witness. */
export async function expectWhole(station: Station, firstKeys: readonly (string | null)[] = []): Promise<void> {
  expect(await breaches(station.dbPath, station.vault, await witnessesOf(station, firstKeys))).toEqual([]);
}

/** Each device carries its newest key, which is active on record and accepted by the cloud. */
export async function expectAgreement(
  station: Station,
  indexes: readonly number[] = [...station.rack.devices.keys()],
  firstKeys: readonly (string | null)[] = [],
): Promise<void> {
  await expectWhole(station, firstKeys);
  for (const index of indexes) {
    const deviceId = station.id(index);
    const fingerprint = await station.keyOn(index);
    const newest = (await station.history(deviceId)).keys.at(-1);
    expect(newest).toMatchObject({ fingerprint, state: 'active', cloud: { state: 'accepted' } });
    expect(station.cloud.currentFingerprint(deviceId)).toBe(fingerprint);
  }
}
