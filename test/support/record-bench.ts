import Database from 'better-sqlite3';
import { Fault } from '#src/core/errors.ts';
import { parseDeviceId, type DeviceId } from '#src/core/device-id.ts';
import type { Settlement } from '#src/core/ledger.ts';
import type { Outcome } from '#src/core/outcomes.ts';
import type { UsbPath } from '#src/core/usb-path.ts';
import type { OpenedRun, OpenRun } from '#src/store/ops/runs.ts';
import { Store } from '#src/store/store.ts';
import { type AnyStore, DirectStore } from './direct-store.ts';
import { RecordedDevice } from './recorded-device.ts';
import { tempFolder } from './temp-folder.ts';

export function deviceIdOf(n: number): DeviceId {
  return parseDeviceId(n.toString(16).padStart(24, '0'))!;
}

/** The fault that something ends with; a mistake of the test if it ends well. */
export async function faultOf(acting: Promise<unknown>): Promise<Fault> {
  const thrown: unknown = await acting.then(
    () => 'nothing was thrown',
    (error: unknown) => error,
  );
  if (!(thrown instanceof Fault)) throw new Error(`no fault: ${String(thrown)}`);
  return thrown;
}

/** A real record in a folder of its own, and a look into its tables by a second connection. */
export class RecordBench implements AsyncDisposable {
  readonly folder: ReturnType<typeof tempFolder>;
  readonly path: string;
  readonly store: AnyStore;
  #at = 1000;
  #runId: number | null = null;

  private constructor(folder: ReturnType<typeof tempFolder>, path: string, store: AnyStore) {
    this.folder = folder;
    this.path = path;
    this.store = store;
  }

  static open(): RecordBench {
    const folder = tempFolder();
    const path = folder.file('fleet.db');
    return new RecordBench(folder, path, new DirectStore(path));
  }

  /** With the store's own thread, as the program has it. */
  static async openInThread(): Promise<RecordBench> {
    const folder = tempFolder();
    const path = folder.file('fleet.db');
    return new RecordBench(folder, path, await Store.open({ path, create: true }));
  }

  /** A moment after every one before. */
  get at(): number {
    this.#at += 1;
    return this.#at;
  }

  query<Row>(sql: string, ...values: unknown[]): Row[] {
    const db = new Database(this.path, { readonly: true });
    try {
      return db.prepare(sql).all(...values) as Row[];
    } finally {
      db.close();
    }
  }

  /** One column of a query, as a list. */
  list(sql: string, ...values: unknown[]): unknown[] {
    return this.query<Record<string, unknown>>(sql, ...values).map(row => Object.values(row)[0]);
  }

  /** A row of the outbox as it is in the table. */
  send(sendId: number): Record<string, unknown> {
    return this.query<Record<string, unknown>>('SELECT * FROM sends WHERE id = ?', sendId)[0]!;
  }

  /** IDs of the sends that are due at this moment. */
  async due(at: number, more: { ignoreDue?: boolean; deviceId?: DeviceId } = {}): Promise<number[]> {
    const sends = await this.store.call('dueSends', { at, ignoreDue: false, deviceId: null, ...more });
    return sends.map(({ sendId }) => sendId);
  }

  openRun(devices: readonly number[], more: Partial<OpenRun> = {}): Promise<OpenedRun> {
    const rows = devices.map((n, index) => ({
      deviceId: deviceIdOf(n),
      line: index + 2,
      port: null,
      name: null,
      productId: null,
      extra: {},
    }));
    const run = { job: 'rekey', manifest: '/rack.csv', manifestSha256: 'x', again: false, retryFailed: false };
    return this.store.call('openRun', { ...run, at: this.at, rows, ...more });
  }

  /** Settles a row of a run without an attempt, unless there was one. */
  settle(runId: number, n: number, outcome: Outcome, more: Partial<Settlement> = {}): Promise<void> {
    return this.store.call('settleRow', {
      runId,
      deviceId: deviceIdOf(n),
      attemptId: null,
      path: '1-1.1' as UsbPath,
      outcome,
      code: null,
      message: null,
      fingerprint: null,
      cloud: 'none',
      durationMs: 1.5,
      steps: [],
      at: this.at,
      ...more,
    });
  }

  finish(runId: number, interrupted = false): Promise<void> {
    return this.store.call('finishRun', { runId, exitCode: interrupted ? 130 : 0, interrupted, at: this.at });
  }

  async device(n = 1): Promise<RecordedDevice> {
    this.#runId ??= (await this.openRun([], { partly: true })).runId;
    return new RecordedDevice(this, deviceIdOf(n), this.#runId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    this.folder[Symbol.dispose]();
  }
}
