import type { DeviceId } from '#src/core/device-id.ts';
import type { UsbPath } from '#src/core/usb-path.ts';
import type { AnyStore } from './direct-store.ts';
import { deviceIdOf } from './record-bench.ts';

/** A public key, as the record has it. */
export interface SeedKey {
  readonly fingerprint: string;
  readonly pem: string;
}

/**
 * Puts devices on record whose keys wait for the cloud, as a run whose cloud was down leaves them: through the operations
 * of the store, a whole batch of devices at once.
 * @param keysOf the keys of device n, oldest first: the last one is pending, the others are superseded
 */
export async function fillOutbox(
  store: AnyStore,
  devices: readonly number[],
  keysOf: (n: number) => readonly SeedKey[],
): Promise<DeviceId[]> {
  const ids = devices.map(deviceIdOf);
  const { runId } = await store.call('openRun', {
    job: 'rekey',
    manifest: '/rack.csv',
    manifestSha256: 'x',
    again: false,
    retryFailed: false,
    partly: true,
    rows: [],
    at: 1,
  });
  const keys = devices.map(keysOf);
  const most = Math.max(...keys.map(({ length }) => length));
  for (let generation = 1; generation <= most; generation += 1) {
    const work = ids.flatMap((deviceId, index) => {
      const key = keys[index]?.[generation - 1];
      return key ? [{ deviceId, key }] : [];
    });
    for (let start = 0; start < work.length; start += 500) {
      await Promise.all(work.slice(start, start + 500).map(each => leftToOutbox(store, runId, generation, each)));
    }
  }
  return ids;
}

async function leftToOutbox(
  store: AnyStore,
  runId: number,
  generation: number,
  { deviceId, key }: { deviceId: DeviceId; key: SeedKey },
): Promise<void> {
  const at = generation;
  const path = '1-1.1' as UsbPath;
  const { attemptId } = await store.call('beginAttempt', {
    runId,
    deviceId,
    path,
    platform: 'photon',
    bootloader: 'new',
    at,
  });
  const { backupId } = await store.call('saveBackup', {
    deviceId,
    attemptId,
    takenAt: at,
    sha256: 'b'.repeat(64),
    bytes: 8391,
    classification: 'blank',
    fingerprint: null,
    sealed: Uint8Array.of(1),
  });
  const { writeId } = await store.call('prepareWrite', {
    deviceId,
    attemptId,
    backupId,
    alternate: 1,
    offset: 34,
    length: 1600,
    oldSha256: 'o',
    newSha256: 'n',
    key: {
      generation,
      fingerprint: key.fingerprint,
      publicPem: key.pem,
      algorithm: 'rsa',
      bits: 1024,
      sealedPrivate: Uint8Array.of(9),
      productId: null,
    },
    at,
  });
  await store.call('markWriting', { writeId, at });
  await store.call('markVerified', { writeId, at });
  await store.call('markLeft', { writeId, at });
}
