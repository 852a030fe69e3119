import { readdirSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { createCloudClient } from '#src/cloud/client.ts';
import { Deliverer } from '#src/cloud/deliver.ts';
import { replayOnce } from '#src/cloud/replay.ts';
import { systemClock } from '#src/core/clock.ts';
import type { DeviceSettled } from '#src/core/events.ts';
import type { Delivery } from '#src/core/ledger.ts';
import { Secret } from '#src/core/secret.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { parseCloudFault } from '#src/sim/virtual-cloud.ts';
import { outboxOf } from '#src/store/ledger.ts';
import type { OutboxEntry } from '#src/store/ops/reports.ts';
import { Station } from '../support/station.ts';
import { startTlsCloud } from '../support/tls-cloud.ts';

const TOKEN = 'token-of-the-tests';
/** The deadline where an answer will not come in any case. */
const SHORT_MS = 400;
const NO_ANSWER = 'no answer within 400 ms';

/** A station with one device whose key the cloud knows, as after the factory. */
class Bench implements AsyncDisposable {
  readonly station: Station;
  /** Fingerprint of that key. */
  readonly old: string;
  #reached = { timeoutMs: 0, url: '' };

  private constructor(station: Station, old: string) {
    this.station = station;
    this.old = old;
    this.reach({});
  }

  static async open(): Promise<Bench> {
    const station = await Station.open();
    const { publicKey } = classifyPrivateKey(fieldOf(await station.dct(0), DCT.DEVICE_PRIVATE_KEY));
    const { url } = station.cloud;
    const client = createCloudClient({ url, token: new Secret(TOKEN), timeoutMs: 10_000, insecure: false });
    await client.sendPublicKey({
      deviceId: station.id(0),
      publicKeyPem: publicKey!.pem,
      productId: null,
      orderMs: 1,
    });
    return new Bench(station, publicKey!.fingerprint);
  }

  get id() {
    return this.station.id(0);
  }

  /** From now on the cloud does this to whoever asks. */
  meet(...faults: string[]): void {
    this.station.cloud.setFaults(faults.map(parseCloudFault));
  }

  /** Another deadline for a request, or another cloud, from now on. */
  reach({ timeoutMs = 10_000, url = this.station.cloud.url }: { timeoutMs?: number; url?: string }): void {
    this.#reached = { timeoutMs, url };
    this.station.deliverer = () => this.#deliverer('run');
  }

  #deliverer(owner: 'run' | 'replay'): Deliverer {
    const { timeoutMs, url } = this.#reached;
    return new Deliverer({
      outbox: outboxOf(this.station.store),
      client: createCloudClient({ url, token: new Secret(TOKEN), timeoutMs, insecure: false }),
      clock: systemClock,
      owner: `${owner}:${process.pid}`,
      timeoutMs,
      random: () => 0,
      onUnauthorized: () => undefined,
    });
  }

  /** One round, with a deliverer of its own as another process has it. */
  async replay(ignoreDue = true): Promise<Delivery['kind'][]> {
    const kinds: Delivery['kind'][] = [];
    await replayOnce({
      outbox: outboxOf(this.station.store),
      deliverer: this.#deliverer('replay'),
      clock: systemClock,
      concurrency: 4,
      deviceId: null,
      ignoreDue,
      stop: new AbortController().signal,
      onTried: ({ delivery }) => kinds.push(delivery.kind),
    });
    return kinds;
  }

  /** The device is in DFU mode again, and gets another key on purpose. */
  async rekeyAgain(): Promise<DeviceSettled> {
    const device = this.station.rack.devices[0]!;
    await vi.waitUntil(() => !device.onBus, { timeout: 240_000 }); // it has passed, and is leaving
    this.station.rack.enterDfu(device.busId);
    return (await this.station.run({ again: true })).devices.get(this.id)!;
  }

  sends(): Promise<OutboxEntry[]> {
    return this.station.store.call('outboxReport', null);
  }

  /** Whether it is the old key or a new one, and of which generation. */
  async where(fingerprint: string | null): Promise<string> {
    if (fingerprint === this.old) return 'old';
    const { keys } = await this.station.history(this.id);
    return `key ${keys.find(key => key.fingerprint === fingerprint)?.generation ?? 'of nobody'}`;
  }

  async keys(): Promise<{ device: string; cloud: string }> {
    return {
      device: await this.where(await this.station.keyOn(0)),
      cloud: await this.where(this.station.cloud.currentFingerprint(this.id)),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      expect(this.station.cloud.maxInFlight()).toBe(1);
      expect(await this.station.store.call('checkRecord', undefined)).toEqual([]);
    } finally {
      await this.station[Symbol.asyncDispose]();
    }
  }
}

describe('a cloud that gives no clear answer: the device goes on with its new key, the send waits, and a replay mends it', () => {
  const gone = expect.stringMatching(/^connection (closed|refused|reset) \(/) as string;

  test.each([
    ['down', 'old', null, gone],
    ['hang', 'old', null, NO_ANSWER],
    ['lost', 'key 1', null, gone],
    ['reset', 'key 1', null, gone],
    ['late:600000', 'key 1', null, NO_ANSWER],
    ['apply-late:600000', 'old', null, NO_ANSWER],
    ['redirect', 'old', 302, 'Found'],
    ['status:408', 'old', 408, 'virtual fault: 408'],
    ['status:429', 'old', 429, 'virtual fault: 429'],
    ['retry-after:60', 'old', 429, 'too many requests'],
    ['retry-after-date:60', 'old', 429, 'too many requests'],
    ['status:500', 'old', 500, 'virtual fault: 500'],
    ['status:503', 'old', 503, 'virtual fault: 503'],
    ['html:502', 'old', 502, 'Bad Gateway'],
    ['html:503', 'old', 503, 'Service Unavailable'],
    ['empty:500', 'old', 500, 'Internal Server Error'],
    ['empty:429', 'old', 429, 'Too Many Requests'],
  ])('%s', async (fault, cloud, lastStatus, lastError) => {
    await using bench = await Bench.open();
    if (lastError === NO_ANSWER) bench.reach({ timeoutMs: SHORT_MS });
    bench.meet(fault);
    const { summary, devices } = await bench.station.run();
    expect(summary).toMatchObject({ pass: 1, cloudPending: 1, exitCode: 4 });
    expect(devices.get(bench.id)).toMatchObject({ outcome: 'pass', code: null, cloud: 'pending' });
    expect(await bench.sends()).toMatchObject([{ state: 'pending', attempts: 1, lastStatus, lastError }]);
    expect(bench.station.rack.devices[0]!.onBus).toBe(false);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud });

    bench.meet();
    bench.reach({});
    expect(await bench.replay()).toEqual(['accepted']);
    expect(await bench.sends()).toMatchObject([{ state: 'accepted', attempts: 2, lastStatus: 200, lastError: null }]);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
    expect((await bench.station.run()).summary).toMatchObject({ skipped: 1, cloudPending: 0, exitCode: 0 });
  });

  test('apply-late: the key that arrives after the deadline is the one that is there', async () => {
    await using bench = await Bench.open();
    bench.reach({ timeoutMs: SHORT_MS });
    bench.meet('apply-late:1500');
    expect((await bench.station.run()).summary).toMatchObject({ cloudPending: 1, exitCode: 4 });
    await vi.waitUntil(async () => (await bench.keys()).cloud === 'key 1', { timeout: 240_000 });
    bench.meet();
    expect(await bench.replay()).toEqual(['accepted']);
    expect(bench.station.cloud.keysOf(bench.id)).toHaveLength(3);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
  });

  test.each(['retry-after:60', 'retry-after-date:60'])('%s: no try before that time', async fault => {
    await using bench = await Bench.open();
    bench.meet(fault);
    const before = Date.now();
    await bench.station.run();
    const [{ nextAt } = { nextAt: null }] = await bench.sends();
    expect(nextAt).toBeGreaterThanOrEqual(before + 59_000); // a date has no fractions of a second
    expect(nextAt).toBeLessThanOrEqual(Date.now() + 60_000);
    expect(await bench.replay(false)).toEqual([]);
    expect(bench.station.cloud.requestCount).toBe(2);
  });

  test('the certificate does not verify: nothing is said to the server, and the send waits', async () => {
    await using bench = await Bench.open();
    await using server = await startTlsCloud();
    bench.reach({ url: server.url });
    const { summary, devices } = await bench.station.run();
    expect(summary).toMatchObject({ pass: 1, cloudPending: 1, exitCode: 4 });
    expect(devices.get(bench.id)).toMatchObject({ outcome: 'pass', code: null, cloud: 'pending' });
    expect(await bench.sends()).toMatchObject([
      {
        state: 'pending',
        attempts: 1,
        lastStatus: null,
        lastError: "the server's certificate is signed by itself (DEPTH_ZERO_SELF_SIGNED_CERT)",
      },
    ]);
    expect(server.requestCount).toBe(0);
    expect(readdirSync(bench.station.folder).filter(name => /\.(pem|crt|cer|key)$/.test(name))).toEqual([]);
    bench.reach({});
    expect(await bench.replay()).toEqual(['accepted']);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
  });
});

describe('a cloud that takes the key', () => {
  test.each(['late:300', 'apply-late:300', 'slow:300', 'empty:200', 'empty:204'])('%s', async fault => {
    await using bench = await Bench.open();
    bench.reach({ timeoutMs: 20_000 });
    bench.meet(fault);
    const { summary, devices } = await bench.station.run();
    expect(summary).toMatchObject({ pass: 1, cloudPending: 0, exitCode: 0 });
    expect(devices.get(bench.id)).toMatchObject({ outcome: 'pass', code: null, cloud: 'accepted' });
    expect(await bench.sends()).toMatchObject([{ state: 'accepted', attempts: 1, lastError: null }]);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
    expect(await bench.replay()).toEqual([]);
  });

  test('but never ends its answer: the status has come, and is what counts', async () => {
    await using bench = await Bench.open();
    bench.reach({ timeoutMs: SHORT_MS });
    bench.meet('slow:600000');
    expect((await bench.station.run()).summary).toMatchObject({ pass: 1, cloudPending: 0, exitCode: 0 });
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
  });
});

describe('a cloud that refuses the key: the old one is put back, and a later run gives another', () => {
  test.each([
    ['status:400:1', 400, 'virtual fault: 400'],
    ['refuse-after-store', 400, 'the key was stored, and this says that it was not'],
    ['status:403', 403, 'virtual fault: 403'],
    ['html:403', 403, 'Forbidden'],
    ['empty:403', 403, 'Forbidden'],
    ['status:404', 404, 'virtual fault: 404'],
    ['status:410', 410, 'virtual fault: 410'],
  ])('%s', async (fault, lastStatus, lastError) => {
    await using bench = await Bench.open();
    bench.meet(fault);
    const { summary, devices } = await bench.station.run();
    expect(summary).toMatchObject({ refused: 1, cloudPending: 0, exitCode: 3 });
    expect(devices.get(bench.id)).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED', cloud: 'refused' });
    const [first] = await bench.sends();
    expect(first).toMatchObject({ generation: 1, state: 'refused', attempts: 1, lastStatus, lastError });
    expect(bench.station.rack.devices[0]!.onBus).toBe(true);
    expect(await bench.keys()).toEqual({ device: 'old', cloud: 'old' });

    bench.meet();
    await bench.replay();
    expect(await bench.keys()).toEqual({ device: 'old', cloud: 'old' });
    expect((await bench.station.run()).summary).toMatchObject({ skipped: 1, exitCode: 3 });
    const { summary: again, devices: later } = await bench.station.run({ retryFailed: true });
    expect(again).toMatchObject({ pass: 1, exitCode: 0 });
    const { device, cloud } = await bench.keys();
    expect([device, cloud]).toEqual([cloud, await bench.where(later.get(bench.id)!.fingerprint)]);
    expect(device).not.toBe('old');
  });
});

test('a cloud that refuses the token: the device goes on, the send waits, and a good token sends it', async () => {
  await using bench = await Bench.open();
  bench.meet('status:401');
  const { summary, devices } = await bench.station.run();
  expect(summary).toMatchObject({ pass: 1, cloudPending: 1, exitCode: 6 });
  expect(devices.get(bench.id)).toMatchObject({ outcome: 'pass', code: null, cloud: 'pending' });
  expect(await bench.sends()).toMatchObject([{ state: 'pending', attempts: 1, lastStatus: 401 }]);
  expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'old' });
  expect(await bench.replay()).toEqual(['pending']);
  bench.meet();
  expect(await bench.replay(false)).toEqual(['accepted']);
  expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
});

test('a token that is bad for one device of many stops the others: what is under way goes on, nothing is lost', async () => {
  await using station = await Station.open({ count: 6, hubs: 2 });
  station.cloud.setFaults([parseCloudFault('status:401:1')]);
  const { summary } = await station.run({ concurrency: 2 });
  expect(summary).toMatchObject({ exitCode: 6, fail: 0, error: 0, refused: 0 });
  expect(summary.pass + summary.aborted).toBe(6);
  const pending = await station.store.call('pendingSends', null);
  expect(pending).toBe(summary.cloudPending);
  expect((await station.run()).summary).toMatchObject({ error: 0, fail: 0, refused: 0 });
});

describe('two keys for one device in a row', () => {
  test('the first one stuck: it is superseded, and the cloud never hears of it', async () => {
    await using bench = await Bench.open();
    bench.meet('status:503:1');
    expect((await bench.station.run()).summary).toMatchObject({ cloudPending: 1, exitCode: 4 });
    expect(await bench.rekeyAgain()).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(await bench.sends()).toMatchObject([
      { generation: 1, state: 'superseded', attempts: 1 },
      { generation: 2, state: 'accepted', attempts: 1 },
    ]);
    expect(await bench.replay()).toEqual([]);
    const { cloud } = bench.station;
    // The factory's, the one that met the 503, the second key's.
    expect(cloud.requests.map(({ method, device }) => [method, device])).toEqual(Array(3).fill(['POST', bench.id]));
    const told = await Promise.all(cloud.keysOf(bench.id).map(({ fingerprint }) => bench.where(fingerprint)));
    expect(told).toEqual(['old', 'key 2']);
    expect(await bench.keys()).toEqual({ device: 'key 2', cloud: 'key 2' });
  });

  test('both stuck: only the second is sent, with the first replay', async () => {
    await using bench = await Bench.open();
    bench.meet('status:503');
    await bench.station.run();
    expect(await bench.rekeyAgain()).toMatchObject({ outcome: 'pass', cloud: 'pending' });
    bench.meet();
    expect(await bench.replay()).toEqual(['accepted']);
    expect(await bench.sends()).toMatchObject([{ state: 'superseded' }, { state: 'accepted' }]);
    expect(bench.station.cloud.keysOf(bench.id)).toHaveLength(2);
    expect(await bench.keys()).toEqual({ device: 'key 2', cloud: 'key 2' });
  });

  test('the first on its way by a replay that hangs: the second is not written before that is through', async () => {
    await using bench = await Bench.open();
    bench.reach({ timeoutMs: 2000 });
    await bench.station.run({ offline: true });
    bench.meet('hang');
    const stuck = bench.replay();
    await vi.waitUntil(() => bench.station.cloud.inFlight(bench.id) === 1, { timeout: 240_000 });
    bench.meet();
    const written = bench.station.rack.devices[0]!.photon.dctRewrites;
    const again = bench.rekeyAgain();
    let throughFirst = false;
    void stuck.then(() => {
      throughFirst = bench.station.rack.devices[0]!.photon.dctRewrites === written;
    });
    expect(await stuck).toEqual(['pending']);
    expect(throughFirst).toBe(true);
    expect(await again).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(await bench.sends()).toMatchObject([
      { generation: 1, state: 'superseded', attempts: 1 },
      { generation: 2, state: 'accepted' },
    ]);
    // The one that hung might have landed after it: the cloud is told once more.
    expect(await bench.replay()).toEqual(['accepted']);
    expect(await bench.replay()).toEqual([]);
    expect(await bench.keys()).toEqual({ device: 'key 2', cloud: 'key 2' });
  });

  test('the first is carried out after the second was accepted: the row says that it may, and a replay mends it', async () => {
    await using bench = await Bench.open();
    bench.reach({ timeoutMs: 300 });
    bench.meet('apply-late:1500');
    await bench.station.run();
    bench.meet();
    const row = await bench.rekeyAgain();
    expect(row).toMatchObject({ outcome: 'pass', cloud: 'accepted' });
    expect(row.message).toBe(
      'an earlier key of this device got no answer and may yet land: the cloud is to be told this one once more',
    );
    await vi.waitUntil(async () => (await bench.keys()).cloud === 'key 1', { timeout: 240_000 });
    expect(await bench.replay(false)).toEqual([]); // not before its time
    expect(await bench.replay()).toEqual(['accepted']);
    expect(await bench.keys()).toEqual({ device: 'key 2', cloud: 'key 2' });
  });
});

describe('a new key refused after an older one was pending', () => {
  test('the roll-back makes the older one current, and its send goes', async () => {
    await using bench = await Bench.open();
    bench.meet('status:503:1', 'status:403:1');
    await bench.station.run();
    expect(await bench.rekeyAgain()).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED', cloud: 'refused' });
    expect(await bench.sends()).toMatchObject([
      { generation: 1, state: 'accepted', attempts: 2 },
      { generation: 2, state: 'refused', attempts: 1, lastStatus: 403 },
    ]);
    expect((await bench.station.history(bench.id)).keys).toMatchObject([{ state: 'active' }, { state: 'deactivated' }]);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
    expect(await bench.replay()).toEqual([]);
  });

  test('and the older one gets no answer either: a replay sends it, and never the newer', async () => {
    await using bench = await Bench.open();
    bench.meet('status:503:1', 'status:404:1', 'empty:500');
    await bench.station.run();
    expect(await bench.rekeyAgain()).toMatchObject({ outcome: 'refused', code: 'CLOUD_REFUSED' });
    expect(await bench.sends()).toMatchObject([
      { generation: 1, state: 'pending', attempts: 2, lastStatus: 500 },
      { generation: 2, state: 'refused' },
    ]);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'old' });
    bench.meet();
    expect(await bench.replay()).toEqual(['accepted']);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
  });

  test('and the older one refused as well: it is parked, and goes once the device is claimed and a hand retries it', async () => {
    await using bench = await Bench.open();
    bench.meet('status:503:1', 'status:403');
    await bench.station.run();
    expect(await bench.rekeyAgain()).toMatchObject({ outcome: 'refused', cloud: 'refused' });
    expect(await bench.sends()).toMatchObject([
      { generation: 1, state: 'refused', lastStatus: 403 },
      { generation: 2, state: 'refused', lastStatus: 403 },
    ]);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'old' });
    bench.meet();
    expect(await bench.replay()).toEqual([]);
    await bench.station.store.call('retrySend', { deviceId: bench.id, at: Date.now() });
    expect(await bench.replay()).toEqual(['accepted']);
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
  });

  test('though the cloud had stored it: the older one is sent after it, and is the one that holds', async () => {
    await using bench = await Bench.open();
    bench.meet('status:503:1');
    await bench.station.run();
    bench.meet('refuse-after-store');
    expect(await bench.rekeyAgain()).toMatchObject({ outcome: 'refused' });
    expect(await bench.keys()).toEqual({ device: 'key 1', cloud: 'key 1' });
  });
});

test('a rack under a cloud that fails every third time, and replays until nothing waits: all are of one mind', async () => {
  await using station = await Station.open({ count: 24, hubs: 3 });
  station.cloud.setFaults([parseCloudFault('flaky:33')]);
  const { summary } = await station.run();
  expect(summary).toMatchObject({ pass: 24, exitCode: 4 });
  expect(summary.cloudPending).toBe(7);
  for (let round = 0; (await station.store.call('pendingSends', null)) > 0; round += 1) {
    expect(round).toBeLessThan(10);
    await replayOnce({
      outbox: outboxOf(station.store),
      deliverer: station.deliverer(),
      clock: systemClock,
      concurrency: 8,
      deviceId: null,
      ignoreDue: true,
      stop: new AbortController().signal,
      onTried: () => undefined,
    });
  }
  for (const [index, { deviceId }] of station.rack.devices.entries()) {
    expect(station.cloud.currentFingerprint(deviceId)).toBe(await station.keyOn(index));
  }
  expect(station.cloud.maxInFlight()).toBe(1);
});
