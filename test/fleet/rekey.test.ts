import { describe, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { readAsFirmware } from '#src/photon/firmware-key-reader.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { comparable, rowOf, Station } from '../support/station.ts';

const STRANGER_TO_ALL = parseDeviceId('0123456789abcdef01234567')!;

describe('run with the job rekey', () => {
  test('gives each device a new key, which device, record and cloud agree on, with one rewrite of its flash', async () => {
    await using station = await Station.open({ count: 6, hubs: 2 });
    const { summary, devices } = await station.run();
    expect(summary).toMatchObject({ rows: 6, pass: 6, cloudPending: 0, exitCode: 0 });
    for (const [index, device] of station.rack.devices.entries()) {
      const { keys, backups, attempts } = await station.history(device.deviceId);
      const fingerprint = await station.keyOn(index);
      expect(keys).toMatchObject([
        { generation: 1, fingerprint, state: 'active', cloud: { state: 'accepted', attempts: 1 } },
      ]);
      expect(station.cloud.currentFingerprint(device.deviceId)).toBe(fingerprint);
      expect(devices.get(device.deviceId)).toMatchObject({
        outcome: 'pass',
        code: null,
        fingerprint,
        cloud: 'accepted',
      });
      expect(device.photon.dctRewrites).toBe(1);
      expect(device.photon.record.violations).toEqual([]);
      // One fresh ordinary key in 140 is of the kind that the firmware misreads, a virtual Photon's first key too.
      expect(backups).toMatchObject([{ bytes: 8391 }]);
      expect(backups[0]!.classification).toMatch(/^(readable|misread)$/);
      expect(attempts).toMatchObject([{ outcome: 'pass', code: null, path: device.busId }]);
      expect(attempts[0]?.steps.map(({ name, state }) => `${name} ${state}`)).toEqual([
        'identify ok',
        'preflight ok',
        'backup ok',
        'new-key ok',
        'write ok',
        'verify ok',
        'send ok',
        'leave ok',
      ]);
    }
  });

  test('leaves every byte outside the two key fields as it was', async () => {
    await using station = await Station.open();
    const before = await station.dct(0);
    await station.run();
    const after = await station.dct(0);
    const outside = (dct: Buffer) =>
      Buffer.concat([dct.subarray(32, 34), dct.subarray(DCT.DEVICE_PUBLIC_KEY.offset + DCT.DEVICE_PUBLIC_KEY.length)]);
    expect(outside(after).equals(outside(before))).toBe(true);
    expect(fieldOf(after, DCT.DEVICE_PRIVATE_KEY)).not.toEqual(fieldOf(before, DCT.DEVICE_PRIVATE_KEY));
    expect(readAsFirmware(fieldOf(after, DCT.DEVICE_PRIVATE_KEY))).not.toBeNull();
  });

  test('seals a backup that holds the bytes which were there before', async () => {
    await using station = await Station.open();
    const before = await station.dct(0);
    // The write of the intent is where the record must already hold the backup.
    const sealed: Uint8Array[] = [];
    await station.run({
      ledger: real => ({
        ...real,
        saveBackup: backup => {
          sealed.push(backup.sealed);
          return real.saveBackup(backup);
        },
      }),
    });
    const { backups } = await station.history(station.id(0));
    const opened = await station.vault.open(sealed[0]!, {
      purpose: 'backup',
      deviceId: station.id(0),
      generation: null,
      fingerprint: backups[0]!.fingerprint,
    });
    expect(comparable(opened).equals(comparable(before))).toBe(true);
  });

  test('never touches a device that is not listed, and calls a listed one that never came unseen', async () => {
    await using station = await Station.open({ count: 3 });
    const strangers = [await station.dct(1), await station.dct(2)];
    const { summary, devices, events } = await station.run({
      rows: [rowOf(station.id(0), 2), rowOf(STRANGER_TO_ALL, 3)],
    });
    expect(summary).toMatchObject({ rows: 2, pass: 1, unseen: 1, exitCode: 3 });
    expect(devices.get(STRANGER_TO_ALL)).toMatchObject({ outcome: 'unseen', code: 'NOT_SEEN', path: null });
    expect(events.filter(({ type }) => type === 'stranger')).toHaveLength(2);
    expect((await station.dct(1)).equals(strangers[0]!)).toBe(true);
    expect((await station.dct(2)).equals(strangers[1]!)).toBe(true);
    expect(station.rack.devices.map(({ photon }) => photon.dctRewrites)).toEqual([1, 0, 0]);
  });

  test('works on a device that comes after the run began', async () => {
    await using station = await Station.open({ count: 2 });
    const [, late] = station.rack.devices;
    station.rack.unplug(late!.busId);
    const { summary } = await station.run({
      waitMs: 20_000,
      onEvent: event => {
        if (event.type === 'device') station.rack.plug(late!.busId);
      },
    });
    expect(summary).toMatchObject({ pass: 2, unseen: 0, exitCode: 0 });
  });

  test('a P1 is a device like any other', async () => {
    await using station = await Station.open({ platform: 'p1' });
    expect((await station.run()).summary).toMatchObject({ pass: 1, exitCode: 0 });
  });

  test('skips what is settled, and --again re-keys it on purpose', async () => {
    await using station = await Station.open();
    await station.run();
    const second = await station.run();
    expect(second.summary).toMatchObject({ skipped: 1, pass: 0, exitCode: 0 });
    station.rack.enterDfu(station.rack.devices[0]!.busId);
    const third = await station.run({ again: true });
    expect(third.summary).toMatchObject({ pass: 1, exitCode: 0 });
    const { keys } = await station.history(station.id(0));
    expect(keys.map(({ generation, state, cloud }) => [generation, state, cloud.state])).toEqual([
      [1, 'deactivated', 'accepted'],
      [2, 'active', 'accepted'],
    ]);
    expect(station.cloud.currentFingerprint(station.id(0))).toBe(keys[1]!.fingerprint);
  });

  test('takes no more devices than --limit, and leaves the others for later', async () => {
    await using station = await Station.open({ count: 4 });
    const { summary } = await station.run({ limit: 1, concurrency: 1 });
    expect(summary).toMatchObject({ pass: 1, skipped: 3, exitCode: 0 });
    expect(station.rack.devices.filter(({ photon }) => photon.dctRewrites > 0)).toHaveLength(1);
    expect((await station.run()).summary).toMatchObject({ pass: 3, skipped: 1, exitCode: 0 });
  });

  test('begins no more devices once more than --max-fail have failed', async () => {
    await using station = await Station.open({ count: 5, faults: ['*:write-stall'] });
    const { summary, devices } = await station.run({ maxFail: { count: 1 }, concurrency: 1 });
    expect(summary).toMatchObject({ fail: 2, aborted: 3, exitCode: 3 });
    expect([...devices.values()].filter(({ code }) => code === 'STOPPED')).toHaveLength(3);
  });

  test('Ctrl-C: a device that is being written goes on to its end, the others are not begun, 130', async () => {
    await using station = await Station.open({ count: 3, writeMs: 100 });
    const drain = new AbortController();
    const { summary } = await station.run({
      drain: drain.signal,
      concurrency: 1,
      onEvent: event => {
        if (event.type === 'step' && event.step === 'verify') drain.abort();
      },
    });
    expect(summary).toMatchObject({ pass: 1, aborted: 2, exitCode: 130 });
    expect((await station.run()).summary).toMatchObject({ pass: 2, skipped: 1, exitCode: 0 });
  });

  test('Ctrl-C before the write: nothing is written, and the row is aborted', async () => {
    await using station = await Station.open();
    const drain = new AbortController();
    const { summary, devices } = await station.run({
      drain: drain.signal,
      onEvent: event => {
        if (event.type === 'step' && event.step === 'new-key') drain.abort();
      },
    });
    expect(summary).toMatchObject({ aborted: 1, exitCode: 130 });
    expect(devices.get(station.id(0))).toMatchObject({ code: 'INTERRUPTED' });
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(0);
  });
});

describe('the cloud during a run', () => {
  test.each([403, 404, 422])('a %i puts the old bytes back, byte for byte', async status => {
    await using station = await Station.open();
    const before = await station.dct(0);
    station.cloud.setFaults([parseCloudFault(`status:${status}`)]);
    const { summary, devices } = await station.run();
    expect(summary).toMatchObject({ refused: 1, exitCode: 3 });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED', cloud: 'refused' });
    expect(comparable(await station.dct(0)).equals(comparable(before))).toBe(true);
    const { keys } = await station.history(station.id(0));
    expect(keys).toMatchObject([{ state: 'deactivated', cloud: { state: 'refused' } }]);
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(2);
  });

  test('a 400 after which the cloud may hold the key: the old one is put back and sent again', async () => {
    await using station = await Station.open();
    const old = await station.keyOn(0);
    station.cloud.setFaults([parseCloudFault('refuse-after-store')]);
    const { devices } = await station.run();
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED', fingerprint: old });
    expect(station.cloud.currentFingerprint(station.id(0))).toBe(old);
    const { keys } = await station.history(station.id(0));
    expect(keys).toMatchObject([
      { generation: 1, state: 'deactivated', cloud: { state: 'refused' } },
      { generation: 2, state: 'active', fingerprint: old },
    ]);
  });

  test('a 400 where no old public key can be derived says that the cloud is uncertain', async () => {
    await using station = await Station.open({ faults: ['*:blank-key'] });
    station.cloud.setFaults([parseCloudFault('refuse-after-store')]);
    const { devices } = await station.run();
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'refused', code: 'CLOUD_KEY_UNCERTAIN' });
  });

  test.each(['status:500', 'status:429', 'html:502', 'lost', 'down', 'redirect'])(
    '%s is no clear answer: the device goes on, and the send waits',
    async fault => {
      await using station = await Station.open();
      station.cloud.setFaults([parseCloudFault(fault)]);
      const { summary, devices } = await station.run();
      expect(summary).toMatchObject({ pass: 1, cloudPending: 1, exitCode: 4 });
      expect(devices.get(station.id(0))).toMatchObject({ outcome: 'pass', cloud: 'pending' });
      expect(station.rack.devices[0]!.onBus).toBe(false);
      const { keys } = await station.history(station.id(0));
      expect(keys[0]!.cloud).toMatchObject({ state: 'pending', attempts: 1 });
    },
  );

  test('a 401 stops the intake, keeps every send, and ends with 6', async () => {
    await using station = await Station.open({ count: 3 });
    const { summary, devices } = await station.run({ concurrency: 1 }, 'an-old-token');
    expect(summary).toMatchObject({ pass: 1, aborted: 2, cloudPending: 1, exitCode: 6 });
    expect([...devices.values()].map(({ code }) => code)).toEqual([null, 'CLOUD_UNAUTHORIZED', 'CLOUD_UNAUTHORIZED']);
    expect(station.cloud.requestCount).toBe(1);
  });

  test('--offline sends nothing and leaves every key in the outbox', async () => {
    await using station = await Station.open({ count: 2 });
    expect((await station.run({ offline: true })).summary).toMatchObject({ pass: 2, cloudPending: 2, exitCode: 4 });
    expect(station.cloud.requestCount).toBe(0);
  });
});
