import { describe, expect, test, vi } from 'vitest';
import { Fault } from '#src/core/errors.ts';
import type { Ledger } from '#src/core/ledger.ts';
import { systemClock } from '#src/core/clock.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import { comparable, roundTheLadder, Station } from '../support/station.ts';

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

/** The device with its newest key, the cloud and the record are of one mind, and no second pair was made. */
async function expectInOrder(station: Station, generations: number): Promise<void> {
  const fingerprint = await station.keyOn(0);
  const { keys } = await station.history(station.id(0));
  expect(keys).toHaveLength(generations);
  expect(keys.at(-1)).toMatchObject({ fingerprint, state: 'active', cloud: { state: 'accepted' } });
  expect(station.cloud.currentFingerprint(station.id(0))).toBe(fingerprint);
  expect(station.cloud.maxInFlight()).toBeLessThanOrEqual(1);
}

describe('a run that was cut goes on from what is on the device', () => {
  test.each([
    'before saveBackup',
    'after saveBackup',
    'before prepareWrite',
    'after prepareWrite',
    'before markWriting',
    'after markWriting',
    'before markVerified',
    'after markVerified',
    'before markLeft',
  ] as const)('%s', async boundary => {
    await using station = await Station.open();
    const first = await station.run({ ledger: cutAt(boundary) });
    expect(first.summary).toMatchObject({ error: 1 });
    const device = station.rack.devices[0]!;
    if (!device.onBus) station.rack.enterDfu(device.busId);
    const second = await station.run();
    expect(second.summary).toMatchObject({ pass: 1, exitCode: 0 });
    await expectInOrder(station, 1);
    expect(device.photon.dctRewrites).toBe(1);
  });

  test('unknown: the send is tried again, without another write', async () => {
    await using station = await Station.open();
    station.cloud.setFaults([parseCloudFault('status:503')]);
    await station.run({ ledger: cutAt('after markLeftToOutbox') });
    station.cloud.setFaults([]);
    expect((await station.run()).summary).toMatchObject({ pass: 1, exitCode: 0 });
    await expectInOrder(station, 1);
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(1);
  });

  test.each(['before markRollingBack', 'after markRollingBack', 'before markRolledBack'] as const)(
    'a roll-back that was cut %s is finished',
    async boundary => {
      await using station = await Station.open();
      const before = await station.dct(0);
      station.cloud.setFaults([parseCloudFault('status:403')]);
      await station.run({ ledger: cutAt(boundary) });
      const second = await station.run();
      expect(second.summary).toMatchObject({ refused: 1, exitCode: 3 });
      expect(comparable(await station.dct(0)).equals(comparable(before))).toBe(true);
      expect((await station.history(station.id(0))).keys).toMatchObject([
        { state: 'deactivated', cloud: { state: 'refused' } },
      ]);
      expect(station.rack.devices[0]!.photon.dctRewrites).toBe(2);
    },
  );

  test('other bytes on the device: they are backed up, and a new key is made', async () => {
    await using station = await Station.open();
    await station.run({ ledger: cutAt('after markVerified') });
    const old = (await station.history(station.id(0))).keys[0]!;
    await overwrite(station, 34, Buffer.alloc(64, 0x11));
    expect((await station.run()).summary).toMatchObject({ pass: 1, exitCode: 0 });
    await expectInOrder(station, 2);
    const { keys, backups } = await station.history(station.id(0));
    expect(keys[0]).toMatchObject({
      fingerprint: old.fingerprint,
      state: 'deactivated',
      cloud: { state: 'superseded' },
    });
    expect(backups).toHaveLength(2);
  });

  test('other bytes in the middle of a roll-back: they are backed up, and nothing is written', async () => {
    await using station = await Station.open();
    station.cloud.setFaults([parseCloudFault('status:403')]);
    await station.run({ ledger: cutAt('before markRollingBack') });
    await overwrite(station, 34, Buffer.alloc(64, 0x11));
    const before = await station.dct(0);
    const { devices } = await station.run();
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'ROLLBACK_CONFLICT' });
    expect((await station.dct(0)).equals(before)).toBe(true);
    expect((await station.history(station.id(0))).backups).toHaveLength(2);
  });

  test.each([
    ['accepted', [], 'accepted', 0],
    ['left to the outbox', ['status:503'], 'pending', 4],
  ] as const)(
    'a device that has left, its key %s, is settled from the record at once',
    async (_, faults, cloud, exitCode) => {
      await using station = await Station.open();
      station.cloud.setFaults(faults.map(parseCloudFault));
      await expect(station.run({ cutBeforeSettling: true })).rejects.toThrow('cut');
      await vi.waitUntil(() => !station.rack.devices[0]!.onBus, { timeout: 240_000 });
      const { summary, devices } = await station.run({ waitMs: 60_000 });
      expect(summary).toMatchObject({ pass: 1, exitCode });
      expect(devices.get(station.id(0))).toMatchObject({ outcome: 'pass', cloud, path: null });
      expect((await station.history(station.id(0))).attempts).toMatchObject([{ outcome: 'pass' }]);
    },
  );

  test('a device that is just about to reset when the next run begins is settled from the record too', async () => {
    await using station = await Station.open({ leaveMs: 2500 });
    await expect(station.run({ cutBeforeSettling: true })).rejects.toThrow('cut');
    expect(station.rack.devices[0]!.onBus).toBe(true);
    const { summary } = await station.run({ waitMs: 60_000 });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(1);
  });

  test('a device that was accepted and is still there only has to leave', async () => {
    await using station = await Station.open();
    await station.run({ ledger: cutAt('before markLeft') });
    station.rack.enterDfu(station.rack.devices[0]!.busId);
    const { events } = await station.run();
    expect(events.filter(({ type }) => type === 'device')).toMatchObject([{ outcome: 'pass', cloud: 'accepted' }]);
    const { attempts } = await station.history(station.id(0));
    expect(attempts[1]?.steps.map(({ name, state }) => `${name} ${state}`)).toEqual([
      'identify ok',
      'preflight ok',
      'backup skipped',
      'new-key skipped',
      'write skipped',
      'verify skipped',
      'send skipped',
      'leave ok',
    ]);
    expect(station.cloud.requestCount).toBe(1);
  });

  test('a second row of a manifest that grew is new, the settled one is skipped', async () => {
    await using station = await Station.open({ count: 2 });
    await station.run({ rows: station.rows().slice(0, 1) });
    expect((await station.run()).summary).toMatchObject({ rows: 2, skipped: 1, pass: 1, exitCode: 0 });
  });

  test('failed rows are left alone until --retry-failed, and count for the exit code all the same', async () => {
    await using station = await Station.open({ faults: roundTheLadder('#1:write-stall:1') });
    expect((await station.run()).summary).toMatchObject({ fail: 1, exitCode: 3 });
    expect((await station.run()).summary).toMatchObject({ skipped: 1, exitCode: 3 });
    expect((await station.run({ retryFailed: true })).summary).toMatchObject({ pass: 1, exitCode: 0 });
    await expectInOrder(station, 1);
  });
});

async function overwrite(station: Station, offset: number, bytes: Buffer): Promise<void> {
  const [port] = await simBus(station.rack).list();
  await using dfu = await DfuDevice.open(port!, systemClock);
  await dfu.toIdle();
  await dfu.writeBlock(1, offset, bytes);
}
