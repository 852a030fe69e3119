import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { replayOnce } from '#src/cloud/replay.ts';
import { replayCallsOnce } from '#src/cloud/replay-calls.ts';
import type { CallOutbox } from '#src/core/cloud-calls.ts';
import { systemClock } from '#src/core/clock.ts';
import type { DeviceSettled } from '#src/core/events.ts';
import { Fault } from '#src/core/errors.ts';
import type { Ledger } from '#src/core/ledger.ts';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { callOutboxOf, outboxOf } from '#src/store/ledger.ts';
import { comparable, Station, type RunResult, type RunSettings } from '../support/station.ts';

const ROW = { name: 'A-01', productId: '4711' };

/** A station with one device, which the manifest names and puts into a product. */
class Bench implements AsyncDisposable {
  readonly station: Station;

  private constructor(station: Station) {
    this.station = station;
  }

  static async open(...faults: string[]): Promise<Bench> {
    return new Bench(await Station.open({ faults }));
  }

  get id() {
    return this.station.id(0);
  }

  get cloud() {
    return this.station.cloud;
  }

  /** From now on the cloud does this to whoever asks. */
  meet(...faults: string[]): void {
    this.cloud.setFaults(faults.map(parseCloudFault));
  }

  async run(
    settings: RunSettings & { row?: object } = {},
    token?: string,
  ): Promise<RunResult & { row: DeviceSettled }> {
    const rows = this.station.rows(settings.row ?? ROW);
    const result = await this.station.run({ job: 'provision', rows, ...settings }, token);
    return { ...result, row: result.devices.get(this.id)! };
  }

  /** A job of these steps. */
  job(...steps: string[]): string {
    const file = join(this.station.folder, 'own.yaml');
    writeFileSync(file, ['name: own', 'steps:', ...steps.map(step => `  - ${step}`), ''].join('\n'));
    return file;
  }

  /** One round as another process has it. @returns what became of each send and call, in order */
  async replay(ignoreDue = true): Promise<string[]> {
    const deliverer = this.station.deliverer();
    const tried: string[] = [];
    const how = {
      clock: systemClock,
      concurrency: 4,
      deviceId: null,
      ignoreDue,
      stop: new AbortController().signal,
    };
    await replayOnce({
      ...how,
      outbox: outboxOf(this.station.store),
      deliverer,
      onTried: ({ delivery }) => tried.push(`key ${delivery.kind}`),
    });
    await replayCallsOnce({
      ...how,
      outbox: callOutboxOf(this.station.store),
      caller: this.station.caller(deliverer),
      unauthorized: () => deliverer.unauthorized,
      onTried: ({ kind, delivery }) => tried.push(`${kind} ${delivery.kind}`),
    });
    return tried;
  }

  async calls(): Promise<string[]> {
    return (await this.station.history(this.id)).calls.map(({ kind, state }) => `${kind} ${state}`);
  }

  async claimCode(): Promise<string> {
    return Buffer.from(fieldOf(await this.station.dct(0), DCT.CLAIM_CODE)).toString('latin1');
  }

  /** What the cloud was asked for, without what names a device or a product. */
  asked(): string[] {
    const words: Readonly<Record<string, string>> = { 'POST provisioning': 'key', 'PUT devices': 'name' };
    return this.cloud.requests.map(({ method, path }) => {
      if (path.endsWith('/device_claims')) return 'claim';
      if (path.startsWith('/v1/products/')) return 'product';
      return words[`${method} ${path.split('/')[2] ?? ''}`] ?? path;
    });
  }

  get rewrites(): number {
    return this.station.rack.devices[0]!.photon.dctRewrites;
  }

  get onBus(): boolean {
    return this.station.rack.devices[0]!.onBus;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      expect(this.cloud.maxInFlight()).toBeLessThanOrEqual(1);
      expect(await this.station.store.call('checkRecord', undefined)).toEqual([]);
      expect(await this.station.store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
      this.expectNoCodes();
    } finally {
      await this.station[Symbol.asyncDispose]();
    }
  }

  /** No claim code lies in plain anywhere in the station's folder. */
  expectNoCodes(): void {
    for (const name of readdirSync(this.station.folder)) {
      const bytes = readFileSync(join(this.station.folder, name));
      for (const { code } of this.cloud.claimCodes) expect([name, bytes.includes(code)]).toEqual([name, false]);
    }
  }
}

const cut = (): Promise<never> => Promise.reject(new Fault('DB_FAILED', 'cut'));

describe('first provisioning', () => {
  test('gives a device its key and a claim code in one block, tells the cloud, and then its product and its name', async () => {
    await using bench = await Bench.open();
    const before = await bench.station.dct(0);
    const { summary, row, events } = await bench.run();
    expect(summary).toMatchObject({ pass: 1, cloudPending: 0, exitCode: 0 });
    expect(row).toMatchObject({ outcome: 'pass', code: null, cloud: 'accepted', message: null });
    expect(bench.asked()).toEqual(['claim', 'key', 'product', 'name']);
    expect(bench.rewrites).toBe(1);
    expect([bench.cloud.nameOf(bench.id), bench.cloud.productOf(bench.id)]).toEqual(['A-01', '4711']);
    expect(bench.cloud.claimCodes).toEqual([{ code: await bench.claimCode(), product: '4711' }]);
    expect(bench.cloud.currentFingerprint(bench.id)).toBe(await bench.station.keyOn(0));
    expect(await bench.calls()).toEqual(['add-to-product done', 'name done']);
    expect(JSON.stringify(events)).not.toContain(bench.cloud.claimCodes[0]!.code);
    const after = await bench.station.dct(0);
    for (const dct of [before, after]) {
      for (const { offset, length } of [DCT.DEVICE_PRIVATE_KEY, DCT.DEVICE_PUBLIC_KEY, DCT.CLAIM_CODE]) {
        dct.fill(0, offset, offset + length);
      }
    }
    expect(comparable(after).equals(comparable(before))).toBe(true);
  });

  test('asks for no product and no name where the row says none, and for a code of the account', async () => {
    await using bench = await Bench.open();
    expect((await bench.run({ row: {} })).summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(bench.asked()).toEqual(['claim', 'key']);
    expect(bench.cloud.claimCodes).toMatchObject([{ product: null }]);
    const [{ steps } = { steps: [] }] = (await bench.station.history(bench.id)).attempts;
    expect(steps.filter(({ state }) => state === 'skipped').map(({ name }) => name)).toEqual([
      'add-to-product',
      'name',
    ]);
  });

  test('writes the configured server in the same block', async () => {
    await using bench = await Bench.open();
    await bench.run({ server: { key: 'keep', host: 'cloud.example.org', port: 4711 } });
    const dct = await bench.station.dct(0);
    expect(dct.toString('latin1', 2082 + 386, 2082 + 403)).toBe('cloud.example.org');
    expect(await bench.claimCode()).toBe(bench.cloud.claimCodes[0]!.code);
    expect(bench.rewrites).toBe(1);
  });

  test('of a rack gives each device a code of its own', async () => {
    await using station = await Station.open({ count: 8, hubs: 2 });
    const { summary } = await station.run({ job: 'provision', rows: station.rows(ROW) });
    expect(summary).toMatchObject({ pass: 8, exitCode: 0 });
    const codes = await Promise.all(
      station.rack.devices.map(async (_, n) => fieldOf(await station.dct(n), DCT.CLAIM_CODE).toString()),
    );
    expect(new Set(codes).size).toBe(8);
    expect(station.cloud.claimCodes).toHaveLength(8);
  });
});

describe('steps of it by themselves', () => {
  test('a claim code alone is written, and the keys stay', async () => {
    await using bench = await Bench.open();
    const key = await bench.station.keyOn(0);
    const job = bench.job('identify', 'preflight', 'backup', 'claim-code', 'write', 'verify', 'leave');
    expect((await bench.run({ job })).row).toMatchObject({ outcome: 'pass', cloud: 'none' });
    expect(await bench.claimCode()).toBe(bench.cloud.claimCodes[0]!.code);
    expect(await bench.station.keyOn(0)).toBe(key);
    expect(bench.asked()).toEqual(['claim']);
  });

  test('a name alone is told at once, and nothing is written', async () => {
    await using bench = await Bench.open();
    const job = bench.job('identify', 'name', 'leave');
    expect(await bench.run({ job })).toMatchObject({
      row: { outcome: 'pass', cloud: 'accepted' },
      summary: { exitCode: 0 },
    });
    expect([bench.cloud.nameOf(bench.id), bench.rewrites]).toEqual(['A-01', 0]);
  });

  test('a name alone that gets no answer waits, and the row follows it', async () => {
    await using bench = await Bench.open();
    const job = bench.job('identify', 'name', 'leave');
    bench.meet('status:503');
    expect((await bench.run({ job })).summary).toMatchObject({ cloudPending: 1, exitCode: 4 });
    expect((await bench.run({ job })).summary).toMatchObject({ skipped: 1, exitCode: 4 });
    bench.meet();
    expect(await bench.replay()).toEqual(['name done']);
    expect((await bench.run({ job })).summary).toMatchObject({ skipped: 1, exitCode: 0 });
  });
});

describe('without a claim code the device is not touched', () => {
  test.each([
    ['claims:status:503', 'error', 'CLAIM_UNAVAILABLE', 'no claim code could be had (503: virtual fault: 503)'],
    ['claims:status:429', 'error', 'CLAIM_UNAVAILABLE', 'no claim code could be had (429: virtual fault: 429)'],
    ['claims:redirect', 'error', 'CLAIM_UNAVAILABLE', 'no claim code could be had (302: Found)'],
    [
      'claims:lost',
      'error',
      'CLAIM_UNAVAILABLE',
      expect.stringMatching(/^no claim code could be had \(connection/) as string,
    ],
    ['claims:status:403', 'refused', 'CLAIM_REFUSED', 'the cloud refused a claim code with 403 (virtual fault: 403)'],
    ['claims:empty:200', 'error', 'CLAIM_INVALID', 'what the cloud answered with 200 holds no claim code'],
    ['claims:html:200', 'error', 'CLAIM_INVALID', 'what the cloud answered with 200 holds no claim code'],
  ])('%s: %s %s', async (fault, outcome, code, message) => {
    await using bench = await Bench.open();
    bench.meet(fault);
    const { summary, row } = await bench.run();
    expect(row).toMatchObject({ outcome, code, message, cloud: 'none' });
    expect(summary.exitCode).toBe(3);
    expect([bench.rewrites, bench.onBus]).toEqual([0, true]);
    expect(bench.asked()).toEqual(['claim']);
    expect(await bench.calls()).toEqual([]);
    bench.meet();
    expect((await bench.run({ retryFailed: true })).row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
  });

  test('401: the token is bad, and no more devices are begun', async () => {
    await using station = await Station.open({ count: 3 });
    const rows = station.rows(ROW);
    const { summary, devices } = await station.run({ job: 'provision', rows, concurrency: 1 }, 'another-token');
    expect(summary).toMatchObject({ error: 1, aborted: 2, exitCode: 6 });
    expect([...devices.values()].map(({ code }) => code).sort()).toEqual([
      'CLOUD_UNAUTHORIZED',
      'CLOUD_UNAUTHORIZED',
      'CLOUD_UNAUTHORIZED',
    ]);
    expect(station.rack.devices.map(({ photon }) => photon.dctRewrites)).toEqual([0, 0, 0]);
    expect(station.cloud.requestCount).toBe(1);
  });
});

describe('what the cloud does not take for now waits', () => {
  test('behind the key, and a replay brings all of it in its order', async () => {
    await using bench = await Bench.open();
    bench.meet('keys:status:503');
    const { summary, row } = await bench.run();
    expect(row).toMatchObject({ outcome: 'pass', cloud: 'pending' });
    expect(summary).toMatchObject({ pass: 1, cloudPending: 1, exitCode: 4 });
    expect(await bench.calls()).toEqual(['add-to-product pending', 'name pending']);
    expect(await bench.replay()).toEqual(['key pending']);
    expect(bench.asked()).toEqual(['claim', 'key', 'key']);
    bench.meet('products:status:500:1');
    expect(await bench.replay()).toEqual(['key accepted', 'add-to-product pending']);
    expect((await bench.run()).summary).toMatchObject({ skipped: 1, cloudPending: 1, exitCode: 4 });
    expect(await bench.replay(false)).toEqual([]); // not before its time
    expect(await bench.replay()).toEqual(['add-to-product done', 'name done']);
    expect(bench.asked().slice(3)).toEqual(['key', 'product', 'product', 'name']);
    expect(await bench.replay()).toEqual([]);
    expect([bench.cloud.nameOf(bench.id), bench.cloud.productOf(bench.id)]).toEqual(['A-01', '4711']);
    expect((await bench.run()).summary).toMatchObject({ skipped: 1, cloudPending: 0, exitCode: 0 });
  });

  test('a name of a device that is not claimed yet: it is told when the device has connected', async () => {
    await using bench = await Bench.open();
    bench.meet('names:status:404:1');
    expect(await bench.run()).toMatchObject({ row: { outcome: 'pass', cloud: 'pending' }, summary: { exitCode: 4 } });
    const { calls } = await bench.station.history(bench.id);
    expect(calls).toMatchObject([{ state: 'done' }, { state: 'pending', lastStatus: 404, attempts: 1 }]);
    expect(calls[1]?.lastError).toBe('not claimed yet: virtual fault: 404');
    expect(await bench.replay()).toEqual(['name done']);
  });

  test('a name that is refused is parked; the device has its key all the same, and a hand can have it told again', async () => {
    await using bench = await Bench.open();
    bench.meet('names:status:400');
    const { summary, row } = await bench.run();
    expect(row).toMatchObject({ outcome: 'pass', cloud: 'refused' });
    expect(row.message).toBe(
      'the cloud refused its name with 400 (virtual fault: 400); its key is not touched by that',
    );
    expect(summary).toMatchObject({ pass: 1, exitCode: 3 });
    await vi.waitUntil(() => !bench.onBus, { timeout: 240_000 });
    expect((await bench.run()).summary).toMatchObject({ skipped: 1, exitCode: 3 });
    bench.meet();
    expect(await bench.replay()).toEqual([]);
    await bench.station.store.call('retryCalls', { deviceId: bench.id, at: Date.now() });
    expect(await bench.replay()).toEqual(['name done']);
    expect((await bench.run()).summary).toMatchObject({ skipped: 1, exitCode: 0 });
  });

  test('401 while a name is told: the token is bad, and the name waits', async () => {
    await using bench = await Bench.open();
    bench.meet('names:status:401');
    expect(await bench.run()).toMatchObject({ row: { outcome: 'pass', cloud: 'pending' }, summary: { exitCode: 6 } });
    expect(await bench.replay()).toEqual(['name pending']);
    bench.meet();
    expect(await bench.replay(false)).toEqual(['name done']); // a bad token costs no waiting
  });

  test('a key that the cloud refuses: nothing more is asked for, and the old block is back, claim code and all', async () => {
    await using bench = await Bench.open();
    const before = await bench.station.dct(0);
    bench.meet('keys:status:403');
    expect((await bench.run()).row).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED' });
    expect(await bench.calls()).toEqual([]);
    expect(comparable(await bench.station.dct(0)).equals(comparable(before))).toBe(true);
  });
});

describe('cut short', () => {
  const failing = (method: keyof Ledger) => (real: Ledger) => ({ ...real, [method]: cut });
  const callsFailing = (method: keyof CallOutbox) => (real: CallOutbox) => ({ ...real, [method]: cut });

  test('before the write: its claim code is gone, and the device is begun anew with another', async () => {
    await using bench = await Bench.open();
    expect((await bench.run({ ledger: failing('markWriting') })).row).toMatchObject({ code: 'DB_FAILED' });
    expect(bench.rewrites).toBe(0);
    expect((await bench.run()).row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    const { keys } = await bench.station.history(bench.id);
    expect(keys).toMatchObject([{ state: 'deactivated' }, { state: 'active', cloud: { state: 'accepted' } }]);
    expect(bench.cloud.claimCodes).toHaveLength(2);
    expect(await bench.claimCode()).toBe(bench.cloud.claimCodes[1]!.code);
    expect(bench.rewrites).toBe(1);
  });

  test('after the write: the block is there, and no other code is asked for', async () => {
    await using bench = await Bench.open();
    expect((await bench.run({ ledger: failing('markVerified') })).row).toMatchObject({ code: 'DB_FAILED' });
    expect((await bench.run()).row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(bench.asked()).toEqual(['claim', 'key', 'product', 'name']);
    expect(await bench.claimCode()).toBe(bench.cloud.claimCodes[0]!.code);
    expect(bench.rewrites).toBe(1);
  });

  test('a claim code alone, before its write: begun anew with another', async () => {
    await using bench = await Bench.open();
    const job = bench.job('identify', 'preflight', 'backup', 'claim-code', 'write', 'verify', 'leave');
    await bench.run({ job, ledger: failing('markWriting') });
    expect((await bench.run({ job })).row).toMatchObject({ outcome: 'pass' });
    expect(await bench.claimCode()).toBe(bench.cloud.claimCodes[1]!.code);
  });

  test('a re-key that was cut after its write is no first provisioning: the device gets its claim code', async () => {
    await using bench = await Bench.open();
    await bench.run({ job: 'rekey', ledger: failing('markLeft') });
    bench.station.rack.enterDfu(bench.station.rack.devices[0]!.busId);
    expect((await bench.run()).row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(await bench.claimCode()).toBe(bench.cloud.claimCodes[0]!.code);
  });

  test('between a call and its record: it is made once more, which does no harm', async () => {
    await using bench = await Bench.open();
    expect((await bench.run({ calls: callsFailing('recordCallDone') })).row).toMatchObject({ code: 'DB_FAILED' });
    expect(await bench.calls()).toEqual(['add-to-product pending']);
    expect((await bench.run()).row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(bench.asked()).toEqual(['claim', 'key', 'product', 'product', 'name']);
    expect((await bench.station.history(bench.id)).calls).toMatchObject([
      { state: 'done', attempts: 2 },
      { state: 'done' },
    ]);
  });

  test('before a call was on record, and the device is gone: it is made all the same', async () => {
    await using bench = await Bench.open();
    const running = bench.run({ calls: callsFailing('queueCall'), cutBeforeSettling: true });
    await expect(running).rejects.toThrow('cut');
    bench.station.rack.unplug(bench.station.rack.devices[0]!.busId);
    const { row, summary } = await bench.run();
    expect(row).toMatchObject({ outcome: 'pass', cloud: 'accepted', message: 'finished from the record' });
    expect(summary.exitCode).toBe(0);
    expect(bench.asked()).toEqual(['claim', 'key', 'product', 'name']);
  });

  test('after all of it: nothing is asked for again', async () => {
    await using bench = await Bench.open();
    await expect(bench.run({ cutBeforeSettling: true })).rejects.toThrow('cut');
    await vi.waitUntil(() => !bench.onBus, { timeout: 240_000 });
    expect((await bench.run({ waitMs: 60_000 })).row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(bench.asked()).toEqual(['claim', 'key', 'product', 'name']);
  });
});

test('a write that comes out wrong is written once more with the same claim code', async () => {
  await using bench = await Bench.open('#1:write-flip:1');
  expect((await bench.run()).row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
  expect(bench.cloud.claimCodes).toHaveLength(1);
  expect(await bench.claimCode()).toBe(bench.cloud.claimCodes[0]!.code);
  expect((await bench.station.history(bench.id)).keys).toHaveLength(1);
  expect(bench.rewrites).toBe(2);
});

test('another name supersedes the one that waits', async () => {
  await using bench = await Bench.open();
  bench.meet('names:status:503');
  await bench.run();
  await vi.waitUntil(() => !bench.onBus, { timeout: 240_000 });
  bench.station.rack.enterDfu(bench.station.rack.devices[0]!.busId);
  await bench.run({ row: { ...ROW, name: 'B-07' }, again: true });
  expect(await bench.calls()).toEqual([
    'add-to-product done',
    'name superseded',
    'add-to-product done',
    'name pending',
  ]);
  bench.meet();
  expect(await bench.replay()).toEqual(['name done']);
  expect(bench.cloud.nameOf(bench.id)).toBe('B-07');
});

describe('the step confirm-online', () => {
  test('asks after a device until it has connected with its key; the rack waits for nobody', async () => {
    await using bench = await Bench.open();
    const steps = ['identify', 'preflight', 'backup', 'new-key', 'write', 'verify', 'send', 'confirm-online', 'leave'];
    bench.cloud.noteHandshake(bench.id); // with its old key
    const { row, summary } = await bench.run({ job: bench.job(...steps) });
    expect([row.outcome, row.cloud, summary.exitCode]).toEqual(['pass', 'pending', 4]);
    expect(await bench.replay()).toEqual(['confirm-online pending']);
    bench.cloud.noteHandshake(bench.id);
    expect(await bench.replay()).toEqual(['confirm-online done']);
    expect(await bench.calls()).toEqual(['confirm-online done']);
  });
});
