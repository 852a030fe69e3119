import { sha256Hex } from '#src/core/bytes.ts';
import type { DeviceId } from '#src/core/device-id.ts';
import type { UsbPath } from '#src/core/usb-path.ts';
import { openDatabase } from '#src/store/database.ts';
import type { Db } from '#src/store/db.ts';
import type { OperationInput, OperationName, OperationOutput } from '#src/store/operations.ts';
import { perform } from '#src/store/perform.ts';
import { deviceIdOf } from './record-bench.ts';
import { projectFile } from './project.ts';

const MIGRATIONS = projectFile('migrations');
const DEVICES_AT_ONCE = 500;

/** How many devices a big record has: a handful for every day, and as many as are asked for by hand. */
export const BIG_RECORD_DEVICES = Number(process.env['PHOTON_FLEET_TEST_DEVICES'] ?? 2000);

/** The fingerprint of the key that a device of a big record got, and of the one that was found on it. */
export const newKeyOf = (n: number): string => sha256Hex(Buffer.from(`new ${n}`));
export const oldKeyOf = (n: number): string => sha256Hex(Buffer.from(`old ${n}`));

/**
 * A record of one run over so many devices, through the operations and the journal that a run uses: ten events a device.
 * Nothing of it waits for the disk, and what is sealed is short.
 */
export function makeBigRecord(path: string, devices: number): { devices: number; events: number } {
  const db = openDatabase({ path, create: true, migrationsDir: MIGRATIONS, operator: 'the bench' });
  try {
    db.raw.pragma('synchronous = OFF');
    const act = <N extends OperationName>(name: N, input: OperationInput<N>): OperationOutput<N> =>
      perform(db, name, input);
    const runId = db.raw.transaction(() => openRun(act, devices))();
    for (let from = 1; from <= devices; from += DEVICES_AT_ONCE) {
      db.raw.transaction(() => {
        for (let n = from; n < Math.min(from + DEVICES_AT_ONCE, devices + 1); n += 1) keyDevice(act, runId, n);
      })();
    }
    act('finishRun', { runId, exitCode: 0, interrupted: false, at: Date.now() });
    return { devices, events: db.journal.head().seq };
  } finally {
    finish(db);
  }
}

type Act = <N extends OperationName>(name: N, input: OperationInput<N>) => OperationOutput<N>;

function openRun(act: Act, devices: number): number {
  const rows = Array.from({ length: devices }, (_, index) => ({
    deviceId: deviceIdOf(index + 1),
    line: index + 2,
    port: null,
    name: null,
    productId: null,
    extra: {},
  }));
  const manifest = { job: 'rekey', manifest: '/rack.csv', manifestSha256: 'f'.repeat(64) };
  return act('openRun', { ...manifest, rows, again: false, retryFailed: false, at: Date.now() }).runId;
}

/** One device from its first sight to the end of its row. */
function keyDevice(act: Act, runId: number, n: number): void {
  const deviceId: DeviceId = deviceIdOf(n);
  const at = Date.now();
  const path = `1-1.${(n % 7) + 1}` as UsbPath;
  const fingerprint = newKeyOf(n);
  const { attemptId } = act('beginAttempt', { runId, deviceId, path, platform: 'photon', bootloader: 'new', at });
  const { backupId } = act('saveBackup', {
    deviceId,
    attemptId,
    takenAt: at,
    sha256: oldKeyOf(n),
    bytes: 8391,
    classification: 'readable',
    fingerprint: oldKeyOf(n),
    sealed: Buffer.alloc(48, n),
  });
  const key = {
    generation: 1,
    fingerprint,
    publicPem: `-----BEGIN PUBLIC KEY-----\n${fingerprint}\n-----END PUBLIC KEY-----\n`,
    algorithm: 'rsa',
    bits: 1024,
    sealedPrivate: Buffer.alloc(48, n),
    productId: null,
  } as const;
  const block = { alternate: 1, offset: 34, length: 1600, oldSha256: oldKeyOf(n), newSha256: fingerprint };
  const { writeId, sendId } = act('prepareWrite', { deviceId, attemptId, backupId, ...block, key, at });
  if (sendId === null) throw new Error('a key without a send');
  act('markWriting', { writeId, at });
  act('markVerified', { writeId, at });
  act('leaseSend', { sendId, owner: 'run:1', at, untilAt: at + 60_000, ignoreDue: true });
  act('recordAccepted', { sendId, owner: 'run:1', status: 200, at });
  act('markLeft', { writeId, at });
  act('settleRow', {
    runId,
    deviceId,
    attemptId,
    path,
    outcome: 'pass',
    code: null,
    message: null,
    fingerprint,
    cloud: 'accepted',
    durationMs: 3000,
    steps: [{ name: 'verify', state: 'ok', startedAt: at, ms: 30 }],
    at,
  });
}

function finish(db: Db): void {
  db.raw.pragma('wal_checkpoint(TRUNCATE)');
  db.raw.close();
}
