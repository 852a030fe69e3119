import { describe, expect, test, vi } from 'vitest';
import { Fault } from '#src/core/errors.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { serveRack } from '#src/sim/usbip-server.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { roundTheLadder, rowOf, Station } from '../support/station.ts';

const NOBODY = '0123456789abcdef01234567' as never;

describe('a run ends', () => {
  test('when Ctrl-C came before it had begun', async () => {
    await using station = await Station.open();
    const drain = new AbortController();
    drain.abort();
    const { summary } = await station.run({ drain: drain.signal, waitMs: null });
    expect(summary).toMatchObject({ unseen: 1, exitCode: 130 });
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(0);
  });

  test('with --limit, as soon as that many are through, though --watch would wait', async () => {
    await using station = await Station.open();
    const rows = [...station.rows(), rowOf(NOBODY, 9)];
    expect((await station.run({ rows, limit: 1, waitMs: null })).summary).toMatchObject({
      pass: 1,
      skipped: 1,
      exitCode: 0,
    });
  });

  test('though strangers are asked who they are over a rack that does not list what is imported', async () => {
    await using station = await Station.open({ count: 4, faults: ['*:old-bootloader'] });
    const server = await serveRack(station.rack, { host: '127.0.0.1', port: 0 });
    const bus = rackBus({ host: '127.0.0.1', port: server.port });
    const { summary, events } = await station.run({ rows: [rowOf(NOBODY, 2)], buses: [bus], waitMs: 1500 });
    expect(summary).toMatchObject({ unseen: 1, exitCode: 3 });
    expect(events.filter(({ type }) => type === 'stranger')).toHaveLength(4);
    await bus.close();
    await server.close();
  });

  test('with an error where the record can not be written, after the sessions have come to their end', async () => {
    await using station = await Station.open({ count: 3 });
    await expect(station.run({ cutBeforeSettling: true })).rejects.toMatchObject({ code: 'DB_FAILED' });
    expect(station.rack.devices.map(({ held }) => held)).toEqual([false, false, false]);
  });
});

describe('a device that turns up twice', () => {
  test('in the middle of the work, before the write: neither is written, and the row says why', async () => {
    await using station = await Station.open();
    const id = station.id(0);
    let noted = false;
    const { devices } = await station.run({
      ledger: real => ({
        ...real,
        async saveBackup(backup) {
          await station.rack.add({ deviceId: id });
          await vi.waitUntil(() => noted, { timeout: 240_000 });
          return real.saveBackup(backup);
        },
      }),
      onEvent: ({ type }) => {
        noted ||= type === 'note';
      },
    });
    expect(devices.get(id)).toMatchObject({ outcome: 'error', code: 'IDENTITY_DUPLICATE' });
    expect(station.rack.devices.map(({ photon }) => photon.dctRewrites)).toEqual([0, 0]);
  });
});

describe('what is not finished', () => {
  test('a roll-back that failed is finished by the next plain run', async () => {
    await using station = await Station.open({ faults: roundTheLadder('#1:write-stall:2') });
    station.cloud.setFaults([parseCloudFault('status:403')]);
    const old = await station.keyOn(0);
    const first = await station.run();
    expect([...first.devices.values()]).toMatchObject([{ outcome: 'fail', code: 'ROLLBACK_FAILED' }]);
    const second = await station.run();
    expect([...second.devices.values()]).toMatchObject([{ outcome: 'refused', code: 'CLOUD_REFUSED' }]);
    expect(await station.keyOn(0)).toBe(old);
  });

  test('a retry is not taken while the old key is being put back, and a rolled-back key is never sent', async () => {
    await using station = await Station.open({ faults: roundTheLadder('#1:write-stall:2') });
    station.cloud.setFaults([parseCloudFault('status:403')]);
    await station.run();
    await expect(station.store.call('retrySend', { deviceId: station.id(0), at: Date.now() })).rejects.toThrow(Fault);
    await station.run();
    expect(await station.store.call('pendingSends', null)).toBe(0);
    expect(await station.store.call('checkRecord', undefined)).toEqual([]);
  });

  test('a key that a replay was refused counts as a failure in later runs', async () => {
    await using station = await Station.open();
    await station.run({ offline: true });
    const [due] = await station.store.call('dueSends', { at: Date.now(), ignoreDue: true, deviceId: null });
    station.cloud.setFaults([parseCloudFault('status:404')]);
    expect(await station.deliverer().deliver(due!.sendId)).toMatchObject({ kind: 'refused' });
    expect((await station.run()).summary).toMatchObject({ skipped: 1, exitCode: 3 });
  });

  test('a replay beside the run that has had the answer already is believed', async () => {
    await using station = await Station.open();
    const beside = station.deliverer();
    const { devices } = await station.run({
      offline: true,
      ledger: real => ({
        ...real,
        async markVerified(write) {
          await real.markVerified(write);
          const [due] = await station.store.call('dueSends', { at: Date.now(), ignoreDue: true, deviceId: null });
          await beside.deliver(due!.sendId);
        },
      }),
    });
    expect([...devices.values()]).toMatchObject([{ outcome: 'pass', cloud: 'accepted' }]);
  });

  test('the old key of a product’s device is sent again under its product', async () => {
    await using station = await Station.open();
    station.cloud.setFaults([parseCloudFault('refuse-after-store')]);
    await station.run({ rows: station.rows({ productId: '4711' }) });
    const at = Date.now();
    await station.store.call('retrySend', { deviceId: station.id(0), at });
    const [due] = await station.store.call('dueSends', { at, ignoreDue: true, deviceId: null });
    const lease = { sendId: due!.sendId, owner: 'test', at, untilAt: at + 1000, ignoreDue: true };
    expect(await station.store.call('leaseSend', lease)).toMatchObject({ generation: 2, productId: '4711' });
  });
});
