import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { createCloudClient } from '#src/cloud/client.ts';
import { Fault } from '#src/core/errors.ts';
import type { DeviceSettled } from '#src/core/events.ts';
import type { Prover } from '#src/core/prover.ts';
import { Secret } from '#src/core/secret.ts';
import { makeKeyPair } from '#src/keys/make-key-pair.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { defaultServerKey } from '#src/sim/photon-image.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { comparable, Station, type RunResult, type RunSettings, type StationRack } from '../support/station.ts';

const TOKEN = 'token-of-the-tests';
const SHORT_MS = 400;

/** A station whose cloud shakes hands, with one device whose factory key the cloud knows. */
class Bench implements AsyncDisposable {
  readonly station: Station;
  /** As it was on the device at first. */
  readonly before: Buffer;
  readonly old: string | null;

  private constructor(station: Station, before: Buffer, old: string | null) {
    this.station = station;
    this.before = before;
    this.old = old;
  }

  static async open(rack: StationRack = {}): Promise<Bench> {
    const station = await Station.open({ handshake: true, ...rack });
    const before = await station.dct(0);
    const { publicKey } = classifyPrivateKey(fieldOf(before, DCT.DEVICE_PRIVATE_KEY));
    const bench = new Bench(station, before, publicKey?.fingerprint ?? null);
    if (publicKey) await bench.tell(publicKey.pem);
    return bench;
  }

  get id() {
    return this.station.id(0);
  }

  /** Whoever has the token says that this is the device's key. */
  async tell(publicKeyPem: string): Promise<void> {
    const { url } = this.station.cloud;
    const client = createCloudClient({ url, token: new Secret(TOKEN), timeoutMs: 10_000, insecure: false });
    await client.sendPublicKey({ deviceId: this.id, publicKeyPem, productId: null, orderMs: 1 });
  }

  /** As soon as the cloud has accepted the next key, somebody else sends it another one. */
  forgeAfterNextSend(): void {
    const real = this.station.deliverer();
    let forged = false;
    const deliver = async (sendId: number) => {
      const delivery = await real.deliver(sendId);
      if (!forged) await this.tell((await makeKeyPair()).pem);
      forged = true;
      return delivery;
    };
    this.station.deliverer = () =>
      new Proxy(real, {
        get: (target, name) => (name === 'deliver' ? deliver : (Reflect.get(target, name, target) as unknown)),
      });
  }

  meet(...faults: string[]): void {
    this.station.cloud.setFaults(faults.map(parseCloudFault));
  }

  run(settings: RunSettings = {}): Promise<RunResult> {
    return this.station.run({ prove: {}, ...settings });
  }

  async row(settings: RunSettings = {}): Promise<DeviceSettled> {
    return (await this.run(settings)).devices.get(this.id)!;
  }

  async steps(): Promise<Record<string, string>> {
    const { attempts } = await this.station.history(this.id);
    return Object.fromEntries(attempts.at(-1)!.steps.map(({ name, state }) => [name, state]));
  }

  async told(): Promise<string[]> {
    const { events } = await this.station.history(this.id);
    return events.map(({ event }) => event);
  }

  /** The bytes and the key that were there before, on the device and at the cloud. */
  async expectTakenBack(): Promise<void> {
    expect(comparable(await this.station.dct(0))).toEqual(comparable(this.before));
    expect(this.station.cloud.currentFingerprint(this.id)).toBe(this.old);
    expect(this.station.rack.devices[0]!.onBus).toBe(true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      expect(await this.station.store.call('checkRecord', undefined)).toEqual([]);
      expect(await this.station.store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
    } finally {
      await this.station[Symbol.asyncDispose]();
    }
  }
}

const NOTHING: Prover['server'] = { key: null, host: null, port: null };

test('a device that will connect is proven before it leaves, and the journal says so', async () => {
  await using bench = await Bench.open();
  const { summary, devices } = await bench.run();
  expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
  expect(devices.get(bench.id)).toMatchObject({ outcome: 'pass', code: null, message: null, cloud: 'accepted' });
  expect(await bench.steps()).toMatchObject({ send: 'ok', prove: 'ok', leave: 'ok' });
  expect((await bench.told()).filter(event => ['accepted', 'proven', 'left'].includes(event))).toEqual([
    'accepted',
    'proven',
    'left',
  ]);
  const response = await fetch(`${bench.station.cloud.url}/v1/devices/${bench.id}`, {
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  expect(await response.json()).toMatchObject({ connected: true });
});

describe('a device that would not connect is taken back, byte for byte, and the cloud is told its old key again', () => {
  const REFUSED = { outcome: 'refused', code: 'HANDSHAKE_REFUSED', cloud: 'refused' } as const;
  const said = (which: string) =>
    `the cloud accepted the key, and its handshake refused the device: ${which}; the old key is back on the device`;

  test('the server key on it is another one, and the right one is not known here', async () => {
    await using bench = await Bench.open({ serverKey: await defaultServerKey() });
    const { summary, devices } = await bench.run();
    expect(summary).toMatchObject({ refused: 1, exitCode: 3 });
    expect(devices.get(bench.id)).toMatchObject({
      ...REFUSED,
      message: said('the cloud has another device key on file, or the server key on the device is wrong'),
    });
    await bench.expectTakenBack();
    expect(await bench.steps()).toMatchObject({ send: 'ok', prove: 'failed' });
  });

  test('the server key on it is another one than the configured one', async () => {
    await using bench = await Bench.open({ serverKey: await defaultServerKey() });
    const key = bench.station.cloud.handshake!.serverKey;
    expect(await bench.row({ prove: { server: { ...NOTHING, key } } })).toMatchObject({
      ...REFUSED,
      message: said('the server key on the device is wrong'),
    });
    await bench.expectTakenBack();
  });

  test('the server key on it is none at all', async () => {
    await using bench = await Bench.open({ serverKey: Buffer.alloc(294, 0x30) });
    expect(await bench.row()).toMatchObject({ ...REFUSED, message: said('the server key on the device is wrong') });
    await bench.expectTakenBack();
  });

  test('the cloud has another device key by now', async () => {
    await using bench = await Bench.open();
    bench.forgeAfterNextSend();
    const key = bench.station.cloud.handshake!.serverKey;
    expect(await bench.row({ prove: { server: { ...NOTHING, key } } })).toMatchObject({
      ...REFUSED,
      message: said('the cloud has another device key on file'),
    });
    await bench.expectTakenBack();
    const { keys } = await bench.station.history(bench.id);
    expect(keys.map(({ generation, state, cloud }) => [generation, state, cloud.state])).toEqual([
      [1, 'deactivated', 'refused'],
      [2, 'active', 'accepted'],
    ]);
    expect(await bench.told()).toEqual(
      expect.arrayContaining(['accepted', 'proof-refused', 'roll-back-begun', 'rolled-back', 'restored']),
    );
  });

  test('what answers there is another server', async () => {
    await using bench = await Bench.open();
    bench.meet('handshake-bad-signature');
    expect(await bench.row()).toMatchObject({ ...REFUSED, message: said('the server key on the device is wrong') });
    await bench.expectTakenBack();
    bench.meet();
    expect((await bench.run()).summary).toMatchObject({ skipped: 1, exitCode: 3 });
    expect((await bench.run({ retryFailed: true })).summary).toMatchObject({ pass: 1, exitCode: 0 });
  });

  test('closed without a word', async () => {
    await using bench = await Bench.open();
    bench.meet('handshake-close');
    expect(await bench.row()).toMatchObject(REFUSED);
    await bench.expectTakenBack();
  });

  test('and where there was no key before, the cloud can not be told it again, and the row says so', async () => {
    await using bench = await Bench.open({ keys: 'blank', faults: [] });
    bench.meet('handshake-close');
    expect(await bench.row()).toMatchObject({ outcome: 'refused', code: 'CLOUD_KEY_UNCERTAIN' });
    expect(comparable(await bench.station.dct(0))).toEqual(comparable(bench.before));
  });

  test('also after a crash between the refusal and the roll-back', async () => {
    await using bench = await Bench.open();
    bench.meet('handshake-bad-signature');
    const cut = bench.run({
      ledger: real => ({ ...real, markRollingBack: () => Promise.reject(new Fault('DB_FAILED', 'cut')) }),
      cutBeforeSettling: true,
    });
    await expect(cut).rejects.toMatchObject({ code: 'DB_FAILED' });
    expect(await bench.station.keyOn(0)).not.toBe(bench.old);
    bench.meet();
    expect(await bench.row()).toMatchObject({
      ...REFUSED,
      message:
        'the cloud refused the device earlier (handshake: the server key on the device is wrong); the old key is back on the device',
    });
    await bench.expectTakenBack();
  });

  test('and after one between the roll-back and the row', async () => {
    await using bench = await Bench.open();
    bench.meet('handshake-bad-signature');
    await expect(bench.run({ cutBeforeSettling: true })).rejects.toMatchObject({ code: 'DB_FAILED' });
    expect(await bench.row()).toMatchObject(REFUSED);
    await bench.expectTakenBack();
  });
});

describe('a handshake that says nothing takes nothing back: the device leaves, and its row says so', () => {
  const passed = (reason: unknown) => ({
    outcome: 'pass',
    code: null,
    cloud: 'accepted',
    message: expect.stringMatching(`^not proven by a handshake: ${String(reason)}$`) as string,
  });

  test.each([
    ['handshake-silent', `127.0.0.1:\\d+: no handshake within ${SHORT_MS} ms`],
    ['handshake-short', '127.0.0.1:\\d+: the server closed after 192 of 384 bytes of its answer'],
    ['handshake-long', '127.0.0.1:\\d+: an answer of more than 384 bytes'],
  ])('%s', async (fault, reason) => {
    await using bench = await Bench.open();
    bench.meet(fault);
    const timeoutMs = fault === 'handshake-silent' ? SHORT_MS : 60_000;
    const { summary, devices } = await bench.run({ prove: { timeoutMs } });
    expect(summary).toMatchObject({ pass: 1, exitCode: 0 });
    expect(devices.get(bench.id)).toMatchObject(passed(reason));
    expect(await bench.steps()).toMatchObject({ send: 'ok', prove: 'skipped', leave: 'ok' });
    expect(await bench.station.keyOn(0)).toBe(bench.station.cloud.currentFingerprint(bench.id));
  });

  test('nobody listens', async () => {
    const port = await freePort();
    await using bench = await Bench.open({ serverAddress: { host: '127.0.0.1', port } });
    expect(await bench.row()).toMatchObject(passed(`127.0.0.1:${port}: connection refused \\(ECONNREFUSED\\)`));
  });

  test('the server is built into the firmware and not configured; where it is, that one is asked', async () => {
    await using bench = await Bench.open({ serverKey: null });
    expect(await bench.row()).toMatchObject(passed('the firmware uses the server that is built into it, .*'));
    const { serverKey: key, host, port } = bench.station.cloud.handshake!;
    bench.station.rack.enterDfu(bench.station.rack.devices[0]!.busId);
    const again = await bench.row({ again: true, prove: { server: { key, host, port } } });
    expect(again).toMatchObject({ outcome: 'pass', message: null });
    expect(await bench.steps()).toMatchObject({ prove: 'ok' });
  });

  test('a pending send: the step is skipped', async () => {
    await using bench = await Bench.open();
    bench.meet('status:503');
    expect(await bench.row()).toMatchObject({
      outcome: 'pass',
      cloud: 'pending',
      message: 'not proven by a handshake: its key is not sent yet',
    });
    expect(await bench.steps()).toMatchObject({ send: 'ok', prove: 'skipped', leave: 'ok' });
  });
});

test('a session that takes up a key of an earlier one proves it with what lies in the vault', async () => {
  await using bench = await Bench.open();
  const cut = bench.run({
    ledger: real => ({ ...real, recordProven: () => Promise.reject(new Fault('DB_FAILED', 'cut')) }),
    cutBeforeSettling: true,
  });
  await expect(cut).rejects.toMatchObject({ code: 'DB_FAILED' });
  expect(await bench.row()).toMatchObject({ outcome: 'pass', message: null });
  expect(await bench.steps()).toMatchObject({ write: 'skipped', send: 'skipped', prove: 'ok' });
});

test('a session that takes one up whose key can not be opened leaves it unproven', async () => {
  await using bench = await Bench.open();
  const cut = bench.run({
    ledger: real => ({ ...real, recordProven: () => Promise.reject(new Fault('DB_FAILED', 'cut')) }),
    cutBeforeSettling: true,
  });
  await expect(cut).rejects.toMatchObject({ code: 'DB_FAILED' });
  const row = await bench.row({
    ledger: real => ({
      ...real,
      openWrite: async id => {
        const open = await real.openWrite(id);
        return open?.key ? { ...open, key: { ...open.key, sealedPrivate: Uint8Array.of(1, 2, 3) } } : open;
      },
    }),
  });
  expect(row).toMatchObject({
    outcome: 'pass',
    message: expect.stringMatching(/^not proven by a handshake: its private key can't be opened \(VAULT_/) as string,
  });
  expect(await bench.steps()).toMatchObject({ prove: 'skipped', leave: 'ok' });
});

describe('a device that does not leave at once', () => {
  const atLeave = { handshake: true, keys: 'blank', faults: ['#1:hang:dnload:7'] } as const;

  test('is proven once', async () => {
    await using station = await Station.open({ ...atLeave, clock: new LeapingClock() });
    const { devices } = await station.run({ prove: {} });
    expect(devices.get(station.id(0))).toMatchObject({ outcome: 'pass', message: null });
    const { attempts, events } = await station.history(station.id(0));
    const steps = attempts[0]!.steps.map(({ name, state }) => `${name} ${state}`);
    expect(steps.filter(step => /^(prove|leave)/.test(step))).toEqual([
      'prove ok',
      'leave failed',
      'prove skipped',
      'leave ok',
    ]);
    expect(events.filter(({ event }) => event === 'proven')).toHaveLength(1);
  });

  test('is told once that its key is not sent yet', async () => {
    await using station = await Station.open({ ...atLeave, clock: new LeapingClock() });
    station.cloud.setFaults([parseCloudFault('status:503')]);
    const { devices } = await station.run({ prove: {} });
    expect(devices.get(station.id(0))).toMatchObject({
      outcome: 'pass',
      message: 'not proven by a handshake: its key is not sent yet',
    });
  });
});

test('many devices at once, one of which the cloud does not know', async () => {
  await using station = await Station.open({ handshake: true, count: 6, hubs: 2 });
  station.cloud.setFaults([parseCloudFault(`device:${station.id(3)}:handshake-close`)]);
  const { summary, devices } = await station.run({ prove: {} });
  expect(summary).toMatchObject({ pass: 5, refused: 1, exitCode: 3 });
  expect(devices.get(station.id(3))).toMatchObject({ code: 'HANDSHAKE_REFUSED' });
});

/** One that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise(resolve => server.close(resolve));
  return port;
}
