import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { Fault } from '#src/core/errors.ts';
import type { DeviceSettled } from '#src/core/events.ts';
import type { Failures } from '#src/core/outcomes.ts';
import { expectAgreement, expectWhole, hasLeft } from '../support/agreement.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { faultOf } from '../support/record-bench.ts';
import { rowOf, Station, type RunResult, type RunSettings, type StationRack } from '../support/station.ts';
import { SwitchedFault } from '../support/switched-fault.ts';

const AFTER = 3;

/** A station of two: the first device fails, as long as its fault is on. */
class Bench implements AsyncDisposable {
  readonly station: Station;
  readonly fault: SwitchedFault;

  private constructor(station: Station, fault: SwitchedFault) {
    this.station = station;
    this.fault = fault;
  }

  static async open(fault = 'write-stall', rack: StationRack = {}): Promise<Bench> {
    const switched = new SwitchedFault(`#1:${fault}`);
    const options = { count: 2, keys: 'blank', clock: new LeapingClock(), faults: [switched.fault], ...rack } as const;
    return new Bench(await Station.open(options), switched);
  }

  get id() {
    return this.station.id(0);
  }

  run(settings: RunSettings = {}): Promise<RunResult> {
    return this.station.run({ quarantineAfter: AFTER, ...settings });
  }

  /** One run in which the device fails. */
  async fails(settings: RunSettings = {}): Promise<void> {
    const { devices } = await this.run({ retryFailed: true, ...settings });
    expect(devices.get(this.id)?.outcome).toMatch(/^(fail|error)$/);
  }

  /** What becomes of it in a run that would work on it. */
  async next(settings: RunSettings = {}): Promise<DeviceSettled> {
    return (await this.run({ retryFailed: true, ...settings })).devices.get(this.id)!;
  }

  /** In DFU mode again after it had left. */
  async back(): Promise<void> {
    await hasLeft(this.station, 0);
    this.station.rack.enterDfu(this.station.rack.devices[0]!.busId);
  }

  async failures(): Promise<number> {
    return (await this.station.history(this.id)).failures;
  }

  /** What it was asked so far, in its whole life. */
  asked(): number {
    return Object.values(this.station.rack.devices[0]!.photon.record.counts).reduce((sum, count) => sum + count);
  }

  release(why: string | null = null): Promise<{ failures: number }> {
    return this.station.store.call('releaseDevice', { deviceId: this.id, why, at: this.station.clock.now() });
  }

  lastRun(): { state: string; exit_code: number } {
    const db = new Database(this.station.dbPath, { readonly: true });
    try {
      return db.prepare('SELECT state, exit_code FROM runs ORDER BY id DESC LIMIT 1').get() as never;
    } finally {
      db.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.fault.on = false;
    await expectWhole(this.station);
    await this.station[Symbol.asyncDispose]();
  }
}

const QUARANTINED = { outcome: 'skipped', code: 'QUARANTINED', path: null } as const;

describe('a device that failed too often', () => {
  test('over several runs is left alone: skipped with the reason, and counted under exit 3', async () => {
    await using bench = await Bench.open();
    for (let nth = 1; nth <= AFTER; nth += 1) {
      await bench.fails();
      expect(await bench.failures()).toBe(nth);
    }
    const asked = bench.asked();
    const { summary, devices } = await bench.run({ retryFailed: true });
    expect(summary).toMatchObject({ rows: 2, skipped: 2, fail: 0, exitCode: 3 });
    const settled = devices.get(bench.id)!;
    expect(settled).toMatchObject({ ...QUARANTINED, cloud: 'none', fingerprint: null });
    expect(settled.message).toMatchInlineSnapshot(
      `"in quarantine after 3 failed attempts, the last with WRITE_FAILED"`,
    );
    expect(settled.hint).toMatchInlineSnapshot(
      `"it failed too often: look at it (\`photon-fleet history ID\`), then \`photon-fleet release ID\` lets it take part again"`,
    );
    expect(bench.asked()).toBe(asked);
    expect(bench.lastRun()).toEqual({ state: 'finished', exit_code: 3 });
    expect(await bench.failures()).toBe(AFTER);
  });

  test('is one that failed earlier to a plain run, as any other', async () => {
    await using bench = await Bench.open();
    for (let nth = 1; nth <= AFTER; nth += 1) await bench.fails();
    const { summary, devices } = await bench.run();
    expect(summary).toMatchObject({ skipped: 2, exitCode: 3 });
    expect(devices.get(bench.id)).toMatchObject({ outcome: 'skipped', code: null, message: 'settled earlier: fail' });
  });

  test('after one failure, where that is what was asked for', async () => {
    await using bench = await Bench.open();
    await bench.fails();
    const settled = await bench.next({ quarantineAfter: 1 });
    expect(settled).toMatchObject(QUARANTINED);
    expect(settled.message).toMatchInlineSnapshot(`"in quarantine after 1 failed attempt, the last with WRITE_FAILED"`);
  });

  test('is not so within the run in which it does', async () => {
    await using bench = await Bench.open();
    for (let nth = 1; nth < AFTER; nth += 1) await bench.fails();
    expect(await bench.next()).toMatchObject({ outcome: 'fail', code: 'WRITE_FAILED' });
  });

  test('under another manifest, and in another job, all the same', async () => {
    await using bench = await Bench.open('hang:getstatus');
    await bench.fails({ manifest: '/a.csv' });
    await bench.fails({ manifest: '/b.csv' });
    await bench.fails({ manifest: '/a.csv', job: 'backup' });
    const { summary, devices } = await bench.run({ manifest: '/c.csv' });
    expect(devices.get(bench.id)).toMatchObject(QUARANTINED);
    expect(summary).toMatchObject({ skipped: 1, exitCode: 3 });
    expect(bench.lastRun()).toEqual({ state: 'finished', exit_code: 3 });
  });

  test('is skipped by a run that begins anew on purpose too', async () => {
    await using bench = await Bench.open();
    for (let nth = 1; nth <= AFTER; nth += 1) await bench.fails();
    expect(await bench.next({ again: true })).toMatchObject(QUARANTINED);
  });

  test('never is where that is switched off', async () => {
    await using bench = await Bench.open();
    for (let nth = 1; nth <= AFTER; nth += 1) await bench.fails();
    await bench.fails({ quarantineAfter: 0 });
    expect(await bench.failures()).toBe(AFTER + 1);
    bench.fault.on = false;
    expect(await bench.next({ quarantineAfter: 0 })).toMatchObject({ outcome: 'pass' });
    await expectAgreement(bench.station);
  });
});

describe('what counts', () => {
  test('a device that is gone', async () => {
    await using bench = await Bench.open();
    const { busId } = bench.station.rack.devices[0]!;
    for (let nth = 1; nth <= AFTER; nth += 1) {
      await bench.fails({
        onEvent: event => {
          if (event.type === 'step' && event.path === busId && event.step === 'preflight')
            bench.station.rack.unplug(busId);
        },
      });
      bench.station.rack.plug(busId);
    }
    const settled = await bench.next();
    expect(settled).toMatchObject(QUARANTINED);
    expect(settled.message).toMatch(/USB_GONE$/);
  });

  test('nothing of what a device passed after; a backup is no such pass', async () => {
    await using bench = await Bench.open();
    await bench.fails();
    await bench.fails();
    bench.fault.on = false;
    expect(await bench.next()).toMatchObject({ outcome: 'pass' });
    expect(await bench.failures()).toBe(0);
    bench.fault.on = true;
    for (const n of [1, 2]) {
      await bench.back();
      await bench.fails({ again: true });
      expect(await bench.failures()).toBe(n);
    }
    expect(await bench.next({ job: 'backup' })).toMatchObject({ outcome: 'pass' });
    expect(await bench.failures()).toBe(2);
    await bench.fails();
    expect(await bench.next()).toMatchObject(QUARANTINED);
  });

  test('not an attempt that was cut short', async () => {
    await using bench = await Bench.open();
    await bench.fails();
    await bench.fails();
    for (let nth = 1; nth <= 2; nth += 1) {
      await expect(bench.run({ retryFailed: true, cutBeforeSettling: true })).rejects.toThrow('cut');
    }
    expect((await bench.station.history(bench.id)).attempts.map(({ outcome }) => outcome)).toEqual([
      'fail',
      'fail',
      null,
      null,
    ]);
    expect(await bench.failures()).toBe(2);
    expect(await bench.next()).toMatchObject({ outcome: 'fail', code: 'WRITE_FAILED' });
    expect(await bench.next()).toMatchObject(QUARANTINED);
  });

  test('not one that was interrupted', async () => {
    await using bench = await Bench.open();
    for (let nth = 1; nth <= AFTER; nth += 1) {
      const drain = new AbortController();
      const settled = await bench.next({
        drain: drain.signal,
        onEvent: event => {
          if (event.type === 'step' && event.step === 'new-key') drain.abort();
        },
      });
      expect(settled).toMatchObject({ outcome: 'aborted', code: 'INTERRUPTED' });
    }
    expect(await bench.failures()).toBe(0);
    expect(await bench.next()).toMatchObject({ outcome: 'fail' });
  });

  test('not one for which the station is to blame, or the one who wrote the manifest, or the cloud', async () => {
    await using bench = await Bench.open('read-unstable');
    bench.fault.on = false;
    for (let nth = 1; nth <= AFTER; nth += 1) {
      const failing = { saveBackup: () => Promise.reject(new Fault('DB_FAILED', 'the disk is full')) };
      const settled = await bench.next({ ledger: real => ({ ...real, ...failing }) });
      expect(settled).toMatchObject({ outcome: 'error', code: 'DB_FAILED' });
    }
    const elsewhere = parseDeviceId('0123456789abcdef01234567')!;
    const { busId } = bench.station.rack.devices[0]!;
    for (let nth = 1; nth <= AFTER; nth += 1) {
      // The socket is another device's, says the manifest.
      const { devices } = await bench.run({ rows: [rowOf(elsewhere, 2, { port: busId })] });
      expect(devices.get(elsewhere)).toMatchObject({ outcome: 'error', code: 'IDENTITY_MISMATCH' });
    }
    expect(await bench.failures()).toBe(0);
    expect(await bench.next()).toMatchObject({ outcome: 'pass' });
  });

  test('not a device whose serial is another one’s than its DCT says', async () => {
    const deviceId = parseDeviceId('0123456789abcdef01234567')!;
    const faults = ['#1:serial:0123456789ABCDEF01234567'];
    await using station = await Station.open({ keys: 'blank', clock: new LeapingClock(), faults });
    for (let nth = 1; nth <= AFTER + 1; nth += 1) {
      const { devices } = await station.run({ rows: [rowOf(deviceId, 2)], quarantineAfter: AFTER });
      expect(devices.get(deviceId)).toMatchObject({ outcome: 'error', code: 'IDENTITY_MISMATCH' });
    }
    const { attempts, failures } = await station.history(deviceId);
    expect([attempts.length, failures]).toEqual([AFTER + 1, 0]);
  });
});

describe('a hand that releases a device', () => {
  async function quarantined(): Promise<Bench> {
    const bench = await Bench.open();
    for (let nth = 1; nth <= AFTER; nth += 1) await bench.fails();
    expect(await bench.next()).toMatchObject(QUARANTINED);
    return bench;
  }

  test('lets the next plain run work on it', async () => {
    await using bench = await quarantined();
    expect(await bench.release('new cable')).toEqual({ failures: AFTER });
    bench.fault.on = false;
    const { summary } = await bench.run();
    expect(summary).toMatchObject({ pass: 1, skipped: 1, exitCode: 0 });
    await expectAgreement(bench.station);
    const { releases, failures } = await bench.station.history(bench.id);
    expect(releases).toMatchObject([{ why: 'new cable' }]);
    expect(failures).toBe(0);
  });

  test('has nothing to do a second time', async () => {
    await using bench = await quarantined();
    expect(await bench.release()).toEqual({ failures: AFTER });
    expect(await bench.release('once more')).toEqual({ failures: 0 });
    expect((await bench.station.history(bench.id)).releases).toMatchObject([{ why: null }]);
  });

  test('lets it begin to count anew', async () => {
    await using bench = await quarantined();
    await bench.release();
    await bench.fails({ retryFailed: false });
    expect(await bench.failures()).toBe(1);
    expect((await bench.run()).devices.get(bench.id)).toMatchObject({ message: 'settled earlier: fail' });
    await bench.fails();
    await bench.fails();
    const settled = await bench.next();
    expect(settled).toMatchObject(QUARANTINED);
    expect(settled.message).toBe('in quarantine after 3 failed attempts, the last with WRITE_FAILED');
  });

  test('of which nothing is on record is told so', async () => {
    await using bench = await Bench.open();
    expect((await faultOf(bench.release())).code).toBe('DEVICE_NOT_FOUND');
  });
});

describe('the plan of a run', () => {
  async function planned(bench: Bench): Promise<{ settled: boolean; failures: Failures | null }> {
    const [plan] = await bench.station.store.call('planRows', {
      job: 'rekey',
      manifest: '/rack.csv',
      deviceIds: [bench.id],
      again: false,
      retryFailed: true,
      quarantineAfter: AFTER,
    });
    return { settled: plan!.settled, failures: plan!.failures };
  }

  test('shows how often a device failed, and that it is in quarantine', async () => {
    await using bench = await Bench.open();
    expect(await planned(bench)).toEqual({ settled: false, failures: null });
    const path = bench.station.rack.devices[0]!.busId;
    for (let nth = 1; nth <= AFTER; nth += 1) {
      await bench.fails();
      const failures = { count: nth, code: 'WRITE_FAILED', paths: [path], quarantined: nth === AFTER };
      expect(await planned(bench)).toEqual({ settled: false, failures });
    }
    await bench.release();
    expect(await planned(bench)).toEqual({ settled: false, failures: null });
  });
});

describe('a run of which nothing is open but what is in quarantine', () => {
  test('that was interrupted is finished by the next one', async () => {
    await using bench = await Bench.open();
    const drain = new AbortController();
    await bench.run({
      manifest: '/a.csv',
      rows: bench.station.rows().slice(0, 1),
      drain: drain.signal,
      onEvent: event => {
        if (event.type === 'step' && event.step === 'new-key') drain.abort();
      },
    });
    expect(bench.lastRun()).toEqual({ state: 'interrupted', exit_code: 130 });
    for (let nth = 1; nth <= AFTER; nth += 1) await bench.fails({ manifest: '/b.csv' });
    const { summary, devices } = await bench.run({ manifest: '/a.csv', rows: bench.station.rows().slice(0, 1) });
    expect(devices.get(bench.id)).toMatchObject(QUARANTINED);
    expect(summary).toMatchObject({ run: 1, skipped: 1, exitCode: 3 });
    const db = new Database(bench.station.dbPath, { readonly: true });
    expect(db.prepare('SELECT state, exit_code FROM runs WHERE id = 1').get()).toEqual({
      state: 'finished',
      exit_code: 3,
    });
    db.close();
  });

  test('waits for nobody, though it was told to', async () => {
    await using bench = await Bench.open();
    for (let nth = 1; nth <= AFTER; nth += 1) await bench.fails();
    const { summary } = await bench.run({ retryFailed: true, waitMs: null });
    expect(summary).toMatchObject({ skipped: 2, exitCode: 3 });
  });
});
