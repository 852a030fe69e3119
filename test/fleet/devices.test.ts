import { describe, expect, test } from 'vitest';
import type { FaultCode } from '#src/core/errors.ts';
import { comparable, pathOf, rowOf, Station } from '../support/station.ts';

/** Outcome and code of the first device of a rack of three in which it alone is bad; the others must pass. */
async function struck(fault: string): Promise<{ outcome: string; code: FaultCode | null; rewrites: number }> {
  await using station = await Station.open({ count: 3, faults: [`#1:${fault}`] });
  const { devices, summary } = await station.run();
  const { outcome, code } = devices.get(station.id(0))!;
  expect(summary.pass).toBe(outcome === 'pass' ? 3 : 2);
  const device = station.rack.devices[0]!;
  expect(device.held).toBe(false);
  return { outcome, code, rewrites: device.photon.dctRewrites };
}

describe('a device with a fault has its own outcome, and the others are not disturbed', () => {
  test.each([
    ['blank-key', 'pass', null, 1],
    ['zero-key', 'pass', null, 1],
    ['pkcs8-key', 'pass', null, 1],
    ['truncated-key', 'pass', null, 1],
    ['misread-key', 'pass', null, 1],
    ['old-bootloader', 'pass', null, 1],
  ] as const)('%s ends as %s %s', async (fault, outcome, code, rewrites) => {
    expect(await struck(fault)).toEqual({ outcome, code, rewrites });
  });

  test.each([
    ['blank-key', 'blank'],
    ['zero-key', 'zeros'],
    ['pkcs8-key', 'pkcs8'],
    ['truncated-key', 'truncated'],
    ['misread-key', 'misread'],
  ])('the backup of a device with a %s says so', async (fault, classification) => {
    await using station = await Station.open({ faults: [`#1:${fault}`] });
    await station.run();
    expect((await station.history(station.id(0))).backups).toMatchObject([{ classification, bytes: 8391 }]);
  });
});

describe('identity', () => {
  test('an old bootloader whose DCT has no ID is known by the port column of the manifest', async () => {
    await using station = await Station.open({ count: 2, faults: ['*:old-bootloader', '*:no-dct-id'] });
    const [first, second] = station.rack.devices;
    const rows = [rowOf(first!.deviceId, 2, { port: first!.busId })];
    const { summary, events } = await station.run({ rows });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(second!.photon.dctRewrites).toBe(0);
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'stranger', path: second!.busId, code: 'IDENTITY_UNKNOWN' }),
    );
  });

  test('two devices with one ID are both left alone', async () => {
    await using station = await Station.open({ count: 2 });
    const id = station.id(0);
    await using twins = await Station.open({ count: 2, ids: [id], faults: [`#2:same-id:${id}`] });
    const { summary, devices } = await twins.run({ rows: [rowOf(id, 2)] });
    expect(summary).toMatchObject({ error: 1, exitCode: 3 });
    expect(devices.get(id)).toMatchObject({ outcome: 'error', code: 'IDENTITY_DUPLICATE' });
    expect(twins.rack.devices.map(({ photon }) => photon.dctRewrites)).toEqual([0, 0]);
  });

  test('a device that hangs elsewhere than the manifest says is left alone', async () => {
    await using station = await Station.open();
    const { devices } = await station.run({ rows: station.rows({ port: pathOf('1-1.7') }) });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'error', code: 'IDENTITY_MISMATCH' });
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(0);
  });

  test('a device whose serial and DCT disagree is left alone', async () => {
    await using station = await Station.open({ faults: ['#1:serial:0123456789ABCDEF01234567'] });
    const { devices } = await station.run({ rows: [rowOf('0123456789abcdef01234567' as never, 2)] });
    expect([...devices.values()]).toMatchObject([{ outcome: 'error', code: 'IDENTITY_MISMATCH' }]);
    expect(station.rack.devices[0]!.photon.dctRewrites).toBe(0);
  });

  test('a new bootloader without a serial is known by its DCT', async () => {
    await using station = await Station.open({ faults: ['#1:no-serial'] });
    expect((await station.run()).summary).toMatchObject({ pass: 1, exitCode: 0 });
  });
});

describe('other jobs', () => {
  test('backup reads only: a backup is on record, no key is made, the device stays in DFU mode as it was', async () => {
    await using station = await Station.open({ count: 2 });
    const before = await station.dct(0);
    const { summary, devices } = await station.run({ job: 'backup' });
    expect(summary).toMatchObject({ pass: 2, exitCode: 0 });
    expect(station.rack.devices.map(({ onBus, photon }) => [onBus, photon.dctRewrites])).toEqual([
      [true, 0],
      [true, 0],
    ]);
    expect((await station.dct(0)).equals(before)).toBe(true);
    const { keys, backups } = await station.history(station.id(0));
    expect(keys).toEqual([]);
    expect(backups).toHaveLength(1);
    expect(devices.get(station.id(0))).toMatchObject({ cloud: 'none', fingerprint: await station.keyOn(0) });
    expect(station.cloud.requestCount).toBe(0);
  });

  test('server-key writes host and port, and leaves the device key and everything else alone', async () => {
    await using station = await Station.open();
    const before = await station.dct(0);
    const server = { key: 'keep', host: 'cloud.example.org', port: 5684 };
    const { summary } = await station.run({ job: 'server-key', server });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    const after = await station.dct(0);
    const expected = Buffer.from(before);
    expected.fill(0xff, 2082 + 384, 2082 + 450);
    expected.set([1, server.host.length, ...Buffer.from(server.host), 0], 2082 + 384);
    expected.writeUInt16BE(5684, 2082 + 450);
    expect(comparable(after).equals(comparable(expected))).toBe(true);
    expect((await station.history(station.id(0))).keys).toEqual([]);
    expect(station.cloud.requestCount).toBe(0);
  });

  test('server-key with builtin blanks the whole field', async () => {
    await using station = await Station.open();
    await station.run({ job: 'server-key', server: { key: 'builtin', host: null, port: null } });
    const field = (await station.dct(0)).subarray(2082, 2082 + 768);
    expect(field.every(byte => byte === 0xff)).toBe(true);
  });
});
