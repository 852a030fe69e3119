import type { DeviceId } from '#src/core/device-id.ts';
import type { LeasedSend, RefusalDoubt } from '#src/core/ledger.ts';
import type { UsbPath } from '#src/core/usb-path.ts';
import type { AnyStore } from './direct-store.ts';
import type { RecordBench } from './record-bench.ts';

const PATH = '1-1.1' as UsbPath;

export interface Prepared {
  readonly writeId: number;
  readonly sendId: number;
}

/** One device as the ledger sees it; each method takes a new write as far as its name says. */
export class RecordedDevice {
  readonly id: DeviceId;
  readonly runId: number;
  readonly #record: RecordBench;

  constructor(record: RecordBench, id: DeviceId, runId: number) {
    this.#record = record;
    this.id = id;
    this.runId = runId;
  }

  get #store(): AnyStore {
    return this.#record.store;
  }

  async attempt(runId = this.runId): Promise<number> {
    const { at } = this.#record;
    const what = { runId, deviceId: this.id, path: PATH, platform: 'photon', bootloader: 'new', at };
    return (await this.#store.call('beginAttempt', what)).attemptId;
  }

  async backup(attemptId: number, fingerprint: string | null = null): Promise<number> {
    const saved = await this.#store.call('saveBackup', {
      deviceId: this.id,
      attemptId,
      takenAt: this.#record.at,
      sha256: 'b'.repeat(64),
      bytes: 8391,
      classification: fingerprint === null ? 'blank' : 'readable',
      fingerprint,
      sealed: Uint8Array.of(1, 2, 3),
    });
    return saved.backupId;
  }

  /** @param key its fingerprint; null: a write without a key. @param old that of the key in the backup */
  async prepared(key: string | null = 'new', old: string | null = null, runId = this.runId): Promise<Prepared> {
    const attemptId = await this.attempt(runId);
    const made = await this.#store.call('prepareWrite', {
      deviceId: this.id,
      attemptId,
      backupId: await this.backup(attemptId, old),
      alternate: 1,
      offset: 34,
      length: 1600,
      oldSha256: 'o',
      newSha256: 'n',
      key:
        key === null
          ? null
          : {
              generation: await this.#store.call('nextGeneration', this.id),
              fingerprint: key,
              publicPem: `pem of ${key}`,
              algorithm: 'rsa',
              bits: 1024,
              sealedPrivate: Uint8Array.of(9),
              productId: '4711',
            },
      at: this.#record.at,
    });
    return { writeId: made.writeId, sendId: made.sendId ?? -1 };
  }

  async writing(key: string | null = 'new', old: string | null = null, runId = this.runId): Promise<Prepared> {
    const write = await this.prepared(key, old, runId);
    if (!(await this.#store.call('markWriting', { writeId: write.writeId, at: this.#record.at }))) {
      throw new Error('a send is in flight');
    }
    return write;
  }

  async verified(key: string | null = 'new', old: string | null = null, runId = this.runId): Promise<Prepared> {
    const write = await this.writing(key, old, runId);
    await this.#store.call('markVerified', { writeId: write.writeId, at: this.#record.at });
    return write;
  }

  /** Verified, sent and accepted; with `left` out of DFU mode too. */
  async accepted(key = 'new', more: { left?: boolean; runId?: number } = {}): Promise<Prepared> {
    const write = await this.verified(key, null, more.runId ?? this.runId);
    await this.lease(write.sendId);
    await this.#store.call('recordAccepted', {
      owner: 'run:1',
      sendId: write.sendId,
      status: 200,
      at: this.#record.at,
    });
    if (more.left) await this.#store.call('markLeft', { writeId: write.writeId, at: this.#record.at });
    return write;
  }

  /** Verified, left to the outbox, and out of DFU mode. */
  async leftToOutbox(key = 'new'): Promise<Prepared> {
    const write = await this.verified(key);
    await this.#store.call('markLeftToOutbox', { writeId: write.writeId, at: this.#record.at });
    await this.#store.call('markLeft', { writeId: write.writeId, at: this.#record.at });
    return write;
  }

  async refused(key = 'new', old: string | null = null, doubt: RefusalDoubt = 'none'): Promise<Prepared> {
    const write = await this.verified(key, old);
    await this.lease(write.sendId);
    await this.refuse(write.sendId, doubt);
    return write;
  }

  async refuse(sendId: number, doubt: RefusalDoubt = 'none'): Promise<void> {
    await this.#store.call('recordRefused', {
      sendId,
      owner: 'run:1',
      status: 403,
      error: 'not yours',
      doubt,
      at: this.#record.at,
    });
  }

  /** The cloud gave no clear answer; the next attempt is at `nextAt`. */
  async unknown(sendId: number, nextAt: number, status: number | null = 503): Promise<void> {
    await this.#store.call('recordUnknown', {
      owner: 'run:1',
      mayLandLate: status === null,
      sendId,
      status,
      error: 'busy',
      nextAt,
      at: this.#record.at,
    });
  }

  /** Leases for ever, unless told otherwise. */
  lease(
    sendId: number,
    more: { owner?: string; at?: number; untilAt?: number; ignoreDue?: boolean } = {},
  ): Promise<LeasedSend | null> {
    const lease = { owner: 'run:1', at: this.#record.at, untilAt: 1e15, ignoreDue: true, ...more };
    return this.#store.call('leaseSend', { sendId, ...lease });
  }

  /** Everything of the device in a few lines: its keys with their sends, and its open write. */
  story(): string[] {
    const keys = this.#record.query<{ generation: number; fingerprint: string; state: string; send: string }>(
      `SELECT keys.generation, keys.fingerprint, keys.state, sends.state AS send FROM keys
         JOIN sends ON sends.key_id = keys.id WHERE keys.device_id = ? ORDER BY keys.generation`,
      this.id,
    );
    const writes = this.#record.list('SELECT phase FROM writes WHERE device_id = ? ORDER BY id', this.id);
    return [
      ...keys.map(
        ({ generation, fingerprint, state, send }) => `key ${generation} ${fingerprint}: ${state}, send ${send}`,
      ),
      `writes: ${writes.join(', ')}`,
    ];
  }
}
