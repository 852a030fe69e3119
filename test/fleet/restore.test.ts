import { describe, expect, test } from 'vitest';
import { Fault } from '#src/core/errors.ts';
import type { Ledger } from '#src/core/ledger.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { breaches } from '../support/audit.ts';
import { Station, type RunSettings, type StationRack } from '../support/station.ts';

type Boundary = `before ${keyof Ledger}` | `after ${keyof Ledger}`;

/** The session ends at this boundary as if the process had died there: nothing that comes later reaches device or record. */
function cutAt(boundary: Boundary): (real: Ledger) => Ledger {
  const [when, method] = boundary.split(' ') as ['before' | 'after', keyof Ledger];
  return real => ({
    ...real,
    [method]: async (input: never) => {
      if (when === 'before') throw new Fault('DB_FAILED', 'cut');
      await (real[method] as (input: never) => Promise<unknown>)(input);
      throw new Fault('DB_FAILED', 'cut');
    },
  });
}

/** One device that was re-keyed, is in DFU mode again, and has one backup: of the key that it came with. */
class Rekeyed implements AsyncDisposable {
  readonly station: Station;
  readonly firstKey: string | null;
  readonly madeKey: string | null;
  readonly first: string;

  private constructor(station: Station, before: { first: string; firstKey: string | null; madeKey: string | null }) {
    this.station = station;
    this.first = before.first;
    this.firstKey = before.firstKey;
    this.madeKey = before.madeKey;
  }

  static async open(rack: StationRack = {}): Promise<Rekeyed> {
    const station = await Station.open(rack);
    const first = (await station.dct(0)).subarray(32).toString('hex');
    const firstKey = await station.keyOn(0);
    expect((await station.run()).summary).toMatchObject({ exitCode: 0 });
    return new Rekeyed(station, { first, firstKey, madeKey: await station.keyOn(0) });
  }

  restore(settings: RunSettings = {}): ReturnType<Station['run']> {
    this.inDfu();
    return this.station.run({ restore: 1, ...settings });
  }

  run(settings: RunSettings = {}): ReturnType<Station['run']> {
    this.inDfu();
    return this.station.run(settings);
  }

  inDfu(): void {
    const device = this.station.rack.devices[0]!;
    if (!device.onBus) this.station.rack.enterDfu(device.busId);
  }

  get rewrites(): number {
    return this.station.rack.devices[0]!.photon.dctRewrites;
  }

  get told(): string[] {
    return this.station.cloud.keysOf(this.station.id(0)).map(({ fingerprint }) => fingerprint);
  }

  async bytes(): Promise<string> {
    return (await this.station.dct(0)).subarray(32).toString('hex');
  }

  async keys(): Promise<[fingerprint: string, state: string, send: string][]> {
    const { keys } = await this.station.history(this.station.id(0));
    return keys.map(({ fingerprint, state, cloud }) => [fingerprint, state, cloud.state]);
  }

  /** A, B and C, at this moment. */
  async expectWhole(): Promise<void> {
    const { station, firstKey, told } = this;
    const deviceId = station.id(0);
    const dct = await station.dct(0);
    const witness = { deviceId, dct, firstKey, told, maxInFlight: station.cloud.maxInFlight(deviceId) };
    expect(await breaches(station.dbPath, station.vault, [witness])).toEqual([]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.station[Symbol.asyncDispose]();
  }
}

describe('a restore', () => {
  test.each(['misread-key', 'pkcs8-key', 'blank-key', 'zero-key', 'truncated-key'])(
    'puts back whatever the device came with, byte for byte: %s',
    async fault => {
      await using one = await Rekeyed.open({ faults: [`#1:${fault}`] });
      const { summary, devices } = await one.restore();
      expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
      expect(await one.bytes()).toBe(one.first);
      const device = devices.get(one.station.id(0))!;
      expect(device.fingerprint).toBe(one.firstKey);
      expect(device.message).toMatch(/can't connect/);
      expect(device.cloud).toBe(one.firstKey === null ? 'none' : 'accepted');
      expect(one.told).toEqual(one.firstKey === null ? [one.madeKey] : [one.madeKey, one.firstKey]);
      await one.expectWhole();
    },
  );

  test('leaves the server key, and everything else that was changed since, as it is', async () => {
    await using one = await Rekeyed.open();
    const server = { key: 'builtin', host: null, port: 4711 };
    await one.run({ job: 'server-key', server, again: true });
    const changed = (await one.bytes()).slice((2082 - 32) * 2);
    await one.restore();
    expect((await one.bytes()).slice((2082 - 32) * 2)).toBe(changed);
    expect(await one.station.keyOn(0)).toBe(one.firstKey);
  });

  test.each(['write-flip', 'write-stall', 'write-drop'])('is proven on the device: %s', async fault => {
    await using one = await Rekeyed.open({ faults: [`#1:${fault}:2`] });
    const { summary } = await one.restore();
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(await one.bytes()).toBe(one.first);
    await one.expectWhole();
  });

  test.each([
    'after saveBackup',
    'before prepareWrite',
    'after prepareWrite',
    'before markWriting',
    'after markWriting',
    'before markVerified',
    'after markVerified',
    'before markLeft',
  ] as const)('that was cut %s is finished by the same one, with one write and one key', async boundary => {
    await using one = await Rekeyed.open();
    await one.restore({ ledger: cutAt(boundary) });
    await one.expectWhole();
    expect((await one.restore()).summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(await one.bytes()).toBe(one.first);
    expect(one.rewrites).toBe(2);
    expect(await one.keys()).toEqual([
      [one.madeKey, 'deactivated', 'accepted'],
      [one.firstKey, 'active', 'accepted'],
    ]);
    await one.expectWhole();
  });

  test.each([
    ['none', 'status:403', 0],
    ['that the cloud has stored the old key', 'refuse-after-store', 1],
  ])(
    'that is refused is taken back; with a doubt (%s) the cloud is told the present key again',
    async (_, fault, more) => {
      await using one = await Rekeyed.open();
      const present = await one.bytes();
      one.station.cloud.setFaults([parseCloudFault(fault)]);
      const { summary } = await one.restore();
      expect(summary).toMatchObject({ refused: 1, exitCode: 3 });
      one.station.cloud.setFaults([]);
      expect(await one.bytes()).toBe(present);
      const [made, restored] = await one.keys();
      expect(made?.slice(0, 2)).toEqual([one.madeKey, 'active']);
      expect(restored).toEqual([one.firstKey, 'deactivated', 'refused']);
      const deliverer = one.station.deliverer();
      for (const { sendId } of await one.station.store.call('dueSends', {
        at: one.station.clock.now(),
        ignoreDue: true,
        deviceId: null,
      })) {
        await deliverer.deliver(sendId);
      }
      expect(one.told.at(-1)).toBe(one.madeKey);
      expect(one.told.length).toBeGreaterThanOrEqual(1 + more);
      await one.expectWhole();
    },
  );

  test('of bytes that are there already, refused: the device keeps them, and its key is the one that it was', async () => {
    await using one = await Rekeyed.open();
    await one.restore();
    one.station.cloud.setFaults([parseCloudFault('status:403')]);
    const { summary } = await one.restore();
    expect(summary).toMatchObject({ refused: 1, exitCode: 3 });
    expect(await one.bytes()).toBe(one.first);
    expect((await one.keys()).map(([, state, send]) => [state, send])).toEqual([
      ['deactivated', 'accepted'],
      ['active', 'accepted'],
      ['deactivated', 'refused'],
    ]);
    await one.expectWhole();
  });
});

describe('with another job’s write still open', () => {
  test.each(['after prepareWrite', 'before markVerified', 'after markVerified', 'before markLeft'] as const)(
    'a re-key that was cut %s gives way to a restore',
    async boundary => {
      await using one = await Rekeyed.open();
      await one.run({ again: true, ledger: cutAt(boundary) });
      const { summary } = await one.restore();
      expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
      expect(await one.bytes()).toBe(one.first);
      expect(one.told.at(-1)).toBe(one.firstKey);
      await one.expectWhole();
    },
  );

  test.each(['after prepareWrite', 'before markVerified', 'after markVerified', 'before markLeft'] as const)(
    'a restore that was cut %s is left alone by a run whose row is settled, and gives way to one that begins anew',
    async boundary => {
      await using one = await Rekeyed.open();
      await one.restore({ ledger: cutAt(boundary) });
      const there = await one.bytes();
      expect((await one.run()).summary).toMatchObject({ skipped: 1, exitCode: 0 });
      expect(await one.bytes()).toBe(there);
      expect((await one.run({ again: true })).summary).toMatchObject({ pass: 1, exitCode: 0 });
      const keys = await one.keys();
      expect(keys.at(-1)).toEqual([await one.station.keyOn(0), 'active', 'accepted']);
      expect(keys.at(-1)?.[0]).not.toBe(one.firstKey);
      await one.expectWhole();
    },
  );

  test('a re-key that waits for its roll-back is taken back first', async () => {
    await using one = await Rekeyed.open();
    const present = await one.bytes();
    one.station.cloud.setFaults([parseCloudFault('status:403')]);
    await one.run({ again: true, ledger: cutAt('before markRollingBack') });
    one.station.cloud.setFaults([]);
    const first = await one.restore();
    expect(first.summary).toMatchObject({ refused: 1, exitCode: 3 });
    expect(await one.bytes()).toBe(present);
    await one.expectWhole();
    expect((await one.restore()).summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(await one.bytes()).toBe(one.first);
    await one.expectWhole();
  });

  test('the job that leaves the key alone does not write over a restore', async () => {
    await using one = await Rekeyed.open();
    await one.restore({ ledger: cutAt('after markWriting') });
    const server = { key: 'builtin', host: null, port: null };
    const { devices } = await one.run({ job: 'server-key', server });
    const { code, message } = devices.get(one.station.id(0))!;
    expect(code).toBe('UNFINISHED_WRITE');
    expect(message).toBe('a restore of this device was cut short and is not finished yet');
    expect((await one.restore()).summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect((await one.run({ job: 'server-key', server, retryFailed: true })).summary).toMatchObject({ exitCode: 0 });
    await one.expectWhole();
  });
});
