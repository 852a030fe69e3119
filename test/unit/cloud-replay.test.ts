import { describe, expect, test } from 'vitest';
import type { CloudAnswer, CloudClient, PublicKeySend } from '#src/cloud/client.ts';
import { Deliverer, IN_OTHER_HANDS } from '#src/cloud/deliver.ts';
import { replayOnce, type ReplayOptions, type Tried } from '#src/cloud/replay.ts';
import { Told } from '#src/cloud/told.ts';
import { watchOutbox } from '#src/cloud/watch.ts';
import type { Clock } from '#src/core/clock.ts';
import type { DeviceId } from '#src/core/device-id.ts';
import { Fault } from '#src/core/errors.ts';
import type { Delivery, Outbox } from '#src/core/ledger.ts';
import { publicKeyOf } from '#src/keys/public-key.ts';
import { parseCloudFault, startVirtualCloud } from '#src/sim/virtual-cloud.ts';
import { outboxOf } from '#src/store/ledger.ts';
import { Store } from '#src/store/store.ts';
import { Child } from '../support/children.ts';
import { fillOutbox } from '../support/full-outbox.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { deviceIdOf, RecordBench } from '../support/record-bench.ts';
import { allKeys } from '../support/rsa-pool.ts';
import { tempFolder } from '../support/temp-folder.ts';

/** A moment after all that the bench has put down. */
const NOW = 1_000_000;
const clock: Clock = {
  now: () => NOW,
  monotonicMs: () => NOW,
  sleep: () => Promise.resolve(),
  after: () => () => undefined,
};
const ACCEPTED: CloudAnswer = { kind: 'accepted', status: 200 };
const BUSY: CloudAnswer = { kind: 'unknown', status: 503, reason: 'busy', retryAfterMs: null, mayLandLate: false };

/** An outbox over a real record, a cloud that answers as the test says, and one round after the other. */
class ReplayBench implements AsyncDisposable {
  readonly record = RecordBench.open();
  /** What was sent, by device. */
  readonly sent: DeviceId[] = [];
  readonly tried: Tried[] = [];
  /** Lies between the round and the record. */
  outbox: Outbox;
  answer: (send: PublicKeySend) => CloudAnswer | Promise<CloudAnswer> = () => ACCEPTED;

  constructor() {
    const real = outboxOf(this.record.store as Store);
    // Pages of two, so that a few sends are several pages.
    this.outbox = { ...real, dueSends: query => real.dueSends({ ...query, limit: 2 }) };
  }

  /** As many devices whose keys wait. */
  async fill(count: number): Promise<number[]> {
    const sends: number[] = [];
    for (let n = 1; n <= count; n += 1) sends.push((await (await this.record.device(n)).leftToOutbox()).sendId);
    return sends;
  }

  deliverer(): Deliverer {
    const client: CloudClient = {
      sendPublicKey: async send => {
        this.sent.push(send.deviceId);
        return this.answer(send);
      },
    };
    const { outbox } = this;
    return new Deliverer({
      outbox,
      client,
      clock,
      owner: 'replay:1',
      timeoutMs: 1000,
      random: () => 0,
      onUnauthorized: () => undefined,
    });
  }

  round(more: Partial<ReplayOptions> = {}): Promise<void> {
    return replayOnce({
      outbox: this.outbox,
      deliverer: this.deliverer(),
      clock,
      concurrency: 1,
      deviceId: null,
      ignoreDue: false,
      stop: new AbortController().signal,
      onTried: tried => this.tried.push(tried),
      ...more,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.record[Symbol.asyncDispose]();
  }
}

describe('a round of replay', () => {
  test.each([1, 3, 64])('tries each due send once, oldest first, %i at once', async concurrency => {
    await using bench = new ReplayBench();
    await bench.fill(7);
    await bench.round({ concurrency });
    expect(bench.sent).toEqual([1, 2, 3, 4, 5, 6, 7].map(deviceIdOf));
    expect(bench.tried.map(({ delivery }) => delivery.kind)).toEqual(Array(7).fill('accepted'));
    await bench.round({ concurrency });
    expect(bench.sent).toHaveLength(7);
  });

  test('tries none twice, though each is due again as soon as it has failed', async () => {
    await using bench = new ReplayBench();
    await bench.fill(5);
    bench.answer = () => BUSY;
    await bench.round({ ignoreDue: true });
    expect(bench.sent).toEqual([1, 2, 3, 4, 5].map(deviceIdOf));
    expect(bench.tried.map(({ state }) => state)).toEqual(Array(5).fill('pending'));
  });

  test('leaves what is not due alone, unless it is told not to mind', async () => {
    await using bench = new ReplayBench();
    await bench.fill(3);
    bench.answer = () => BUSY;
    await bench.round();
    bench.answer = () => ACCEPTED;
    await bench.round();
    expect(bench.sent).toHaveLength(3);
    await bench.round({ ignoreDue: true });
    expect(bench.tried.slice(3).map(({ delivery }) => delivery.kind)).toEqual(['accepted', 'accepted', 'accepted']);
  });

  test('forgets none, though new ones come and others are settled while it goes on', async () => {
    await using bench = new ReplayBench();
    const sends = await bench.fill(6);
    bench.answer = async ({ deviceId }) => {
      if (deviceId !== deviceIdOf(1)) return ACCEPTED;
      // While the first is under way: one that waits in the page at hand and one of a later page go, one comes.
      for (const n of [2, 5]) {
        await bench.record.store.call('dropSend', { deviceId: deviceIdOf(n), why: 'scrapped', at: NOW });
      }
      await (await bench.record.device(7)).leftToOutbox();
      return ACCEPTED;
    };
    await bench.round();
    expect(bench.sent).toEqual([1, 3, 4, 6, 7].map(deviceIdOf));
    expect(bench.tried.map(({ sendId, state }) => [sends.indexOf(sendId) + 1, state])).toEqual([
      [1, 'accepted'],
      [2, 'dropped'],
      [3, 'accepted'],
      [4, 'accepted'],
      [6, 'accepted'],
      [0, 'accepted'],
    ]);
  });

  test('sends one device alone where that is asked for', async () => {
    await using bench = new ReplayBench();
    await bench.fill(5);
    await bench.round({ deviceId: deviceIdOf(4) });
    expect(bench.sent).toEqual([deviceIdOf(4)]);
  });

  test('passes by what another process holds, and says so', async () => {
    await using bench = new ReplayBench();
    const [first] = await bench.fill(2);
    const { outbox } = bench;
    bench.outbox = {
      ...outbox,
      async dueSends(query) {
        const page = await outbox.dueSends(query);
        await bench.record.store.call('leaseSend', {
          sendId: first!,
          owner: 'run:1',
          at: NOW,
          untilAt: NOW + 1,
          ignoreDue: true,
        });
        return page;
      },
    };
    await bench.round();
    expect(bench.tried).toMatchObject([
      { sendId: first, state: 'pending', delivery: { kind: 'pending', reason: IN_OTHER_HANDS } },
      { state: 'accepted' },
    ]);
    expect(bench.sent).toEqual([deviceIdOf(2)]);
  });

  test('begins no more after a stop, and waits for those under way', async () => {
    await using bench = new ReplayBench();
    await bench.fill(9);
    const stop = new AbortController();
    const held = heldBack();
    bench.answer = async () => {
      if (bench.sent.length === 3) stop.abort();
      await held.promise;
      return ACCEPTED;
    };
    const round = bench.round({ concurrency: 3, stop: stop.signal });
    await expect.poll(() => bench.sent.length).toBe(3);
    expect(bench.tried).toEqual([]);
    held.resolve();
    await round;
    expect(bench.sent).toHaveLength(3);
    expect(bench.record.list("SELECT count(*) FROM sends WHERE state = 'accepted'")).toEqual([3]);
    expect(bench.record.list('SELECT count(*) FROM sends WHERE lease_owner IS NOT NULL')).toEqual([0]);
  });

  test('begins no more after a 401, and the sends wait as they were', async () => {
    await using bench = new ReplayBench();
    await bench.fill(5);
    bench.answer = () => ({ kind: 'unauthorized', status: 401, reason: 'no such token' });
    await bench.round();
    expect(bench.sent).toHaveLength(1);
    expect(bench.record.list("SELECT count(*) FROM sends WHERE state = 'pending' AND unknowns = 0")).toEqual([5]);
  });

  test.each(['dueSends', 'leaseSend', 'recordAccepted', 'stateOf'] as const)(
    'ends with the fault where the record fails in %s, after those under way are through',
    async method => {
      await using bench = new ReplayBench();
      await bench.fill(8);
      let calls = 0;
      const real = bench.outbox;
      bench.outbox = {
        ...real,
        [method]: (input: never): Promise<unknown> => {
          calls += 1;
          return calls === 2 ? Promise.reject(new Fault('DB_FAILED', 'the disk is full')) : real[method](input);
        },
      };
      const held = heldBack();
      bench.answer = async () => {
        if (bench.sent.length === 3) held.resolve();
        if (method !== 'dueSends') await held.promise;
        return method === 'stateOf' ? BUSY : ACCEPTED;
      };
      await expect(bench.round({ concurrency: 4 })).rejects.toMatchObject({ code: 'DB_FAILED' });
      const done = bench.tried.length;
      expect(done).toBeLessThan(8);
      // Nothing goes on behind its back.
      await new Promise(resolve => setImmediate(resolve));
      expect(bench.tried).toHaveLength(done);
      const leased = method === 'recordAccepted' ? 1 : 0;
      expect(bench.record.list('SELECT count(*) FROM sends WHERE lease_owner IS NOT NULL')).toEqual([leased]);
      bench.answer = () => ACCEPTED;
      await bench.round({ ignoreDue: true });
      expect(bench.record.list("SELECT count(*) FROM sends WHERE state = 'pending'")).toEqual([leased]);
    },
  );
});

describe('what a service says', () => {
  const waits = (n: number, reason: string, more: Partial<Tried> = {}): Tried => ({
    sendId: n,
    deviceId: deviceIdOf(n),
    delivery: { kind: 'pending', reason },
    state: 'pending',
    ...more,
  });
  const answered = (n: number, delivery: Delivery): Tried => waits(n, '', { delivery, state: delivery.kind });

  test('is said once, and again as soon as it is something else', () => {
    const told = new Told();
    const news = [
      waits(1, 'busy'),
      waits(1, 'busy'),
      waits(2, 'busy'),
      waits(1, 'connection refused'),
      waits(1, 'busy'),
      waits(1, IN_OTHER_HANDS),
      waits(1, 'busy'),
      waits(1, 'busy', { sendId: 9 }), // its next key
      answered(1, { kind: 'accepted', again: false }),
      waits(1, 'busy'),
      waits(1, 'busy', { state: 'superseded' }),
      waits(1, 'busy'),
    ].map(tried => told.isNews(tried));
    expect(news).toEqual([true, false, true, true, true, false, false, true, true, true, true, true]);
  });

  test('is forgotten when it is settled, by others too: what is kept is bounded by what waits', async () => {
    await using bench = new ReplayBench();
    await bench.fill(150);
    const told = new Told();
    bench.answer = () => BUSY;
    await bench.round({ onTried: tried => void told.isNews(tried) });
    expect(told.size).toBe(150);
    for (let n = 4; n <= 150; n += 1) {
      await bench.record.store.call('dropSend', { deviceId: deviceIdOf(n), why: 'scrapped', at: NOW });
    }
    await told.forgetSettled(bench.outbox, 3);
    expect(told.size).toBe(3);
    bench.answer = () => ACCEPTED;
    await bench.round({ ignoreDue: true, onTried: tried => void told.isNews(tried) });
    expect(told.size).toBe(0);
  });
});

describe('a service', () => {
  /** Runs it over rounds that end as these say: whether to go on, or a fault; then it is stopped. */
  async function watch(
    ends: readonly (boolean | Fault)[],
  ): Promise<{ said: string[]; first: boolean[]; slept: number[] }> {
    const stop = new AbortController();
    const clock = new QuickClock();
    const said: string[] = [];
    const first: boolean[] = [];
    await watchOutbox({
      round: isFirst => {
        first.push(isFirst);
        const end = ends[first.length - 1];
        if (first.length === ends.length) stop.abort();
        return end instanceof Fault ? Promise.reject(end) : Promise.resolve(end ?? false);
      },
      stop: stop.signal,
      clock,
      onFailure: ({ message }) => said.push(message),
      onMended: () => said.push('mended'),
    });
    return { said, first, slept: clock.sleeps };
  }
  const locked = new Fault('DB_FAILED', 'locked');
  const full = new Fault('DB_FAILED', 'full');

  test('goes on until it is stopped, two seconds after each round, and knows its first one', async () => {
    expect(await watch([true, true, true])).toEqual({
      said: [],
      first: [true, false, false],
      slept: [2000, 2000, 2000],
    });
  });

  test('ends where a round says that it is enough', async () => {
    expect((await watch([true, false, true])).first).toHaveLength(2);
  });

  test('goes on where the record fails, and says each failure once, and when it is over', async () => {
    const { said, first } = await watch([true, locked, locked, full, locked, true, true, locked, true]);
    expect(said).toEqual(['locked', 'full', 'locked', 'mended', 'locked', 'mended']);
    expect(first).toEqual([true, ...Array<boolean>(8).fill(false)]);
  });

  test.each(['RECORD_INVALID', 'BUG'] as const)('ends with any other fault: %s', async code => {
    await expect(watch([true, new Fault(code, 'no'), true])).rejects.toMatchObject({ code });
  });

  test('does not begin where it was stopped before', async () => {
    const round = (): Promise<boolean> => Promise.reject(new Fault('BUG', 'a round'));
    const nobody = (): void => undefined;
    const stop = AbortSignal.abort();
    await watchOutbox({ round, stop, clock: new QuickClock(), onFailure: nobody, onMended: nobody });
  });
});

describe('four thousand pending sends and a cloud of which every tenth answer is none', () => {
  const DEVICES = 4_000;
  /** Devices of which an older key waited when they were given this one. */
  const EVERY = 20;

  test('end with the newest key of each device at the cloud, never two in flight for one, in bounded memory', async () => {
    using folder = tempFolder();
    const path = folder.file('fleet.db');
    const keys = allKeys().map(({ n, e }) => publicKeyOf(n, e));
    const newest = (n: number) => keys[n % keys.length]!;
    const older = (n: number) => keys[(n + 7) % keys.length]!;
    const store = await Store.open({ path, create: true });
    const devices = Array.from({ length: DEVICES }, (_, n) => n + 1);
    const ids = await fillOutbox(store, devices, n => (n % EVERY === 0 ? [older(n), newest(n)] : [newest(n)]));
    await store.close();

    await using cloud = await startVirtualCloud({ faults: [parseCloudFault('flaky:10')] });
    await using child = new Child(REPLAY, [path, cloud.url]);
    const [line = '{}'] = await child.printed(1);
    const { tries, rounds, longestPage, grownMb } = JSON.parse(line) as Record<string, number>;
    const wrong = ids.filter(id => cloud.currentFingerprint(id) !== newest(Number(`0x${id}`)).fingerprint);
    expect(wrong).toEqual([]);
    const olderOnes = ids.filter((id, n) => cloud.keysOf(id).some(key => key.fingerprint === older(n + 1).fingerprint));
    expect(olderOnes).toEqual([]);
    expect(cloud.maxInFlight()).toBe(1);
    // 10 % of 4,000, and of those, and so on.
    expect({ tries, rounds, requests: cloud.requestCount }).toEqual({ tries: 4_444, rounds: 4, requests: 4_444 });
    expect(longestPage).toBe(500);
    expect(grownMb).toBeLessThan(8);
  });
});

/** `replay --now` again and again until nothing waits; what is alive on the heap is looked at after every 500 tries. */
const REPLAY = `
  import { setFlagsFromString } from 'node:v8';
  import { runInNewContext } from 'node:vm';
  const { createCloudClient } = await import(dist + 'cloud/client.js');
  const { Deliverer } = await import(dist + 'cloud/deliver.js');
  const { replayOnce } = await import(dist + 'cloud/replay.js');
  const { systemClock: clock } = await import(dist + 'core/clock.js');
  const { Secret } = await import(dist + 'core/secret.js');
  const { outboxOf } = await import(dist + 'store/ledger.js');
  const { Store } = await import(dist + 'store/store.js');
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  const alive = () => (gc(), process.memoryUsage().heapUsed);
  const [path, url] = argv;
  const store = await Store.open({ path, create: false });
  const real = outboxOf(store);
  let longestPage = 0;
  const outbox = {
    ...real,
    async dueSends(query) {
      const page = await real.dueSends(query);
      longestPage = Math.max(longestPage, page.length);
      return page;
    },
  };
  const timeoutMs = 10_000;
  const client = createCloudClient({ url, token: new Secret('t'), timeoutMs, insecure: false });
  const random = () => 0;
  const onUnauthorized = () => {};
  const deliverer = new Deliverer({ outbox, client, clock, owner: 'replay:1', timeoutMs, random, onUnauthorized });
  const stop = new AbortController().signal;
  let [tries, rounds, before, most] = [0, 0, 0, 0];
  const onTried = () => {
    tries += 1;
    if (tries === 500) before = alive();
    else if (tries % 500 === 0) most = Math.max(most, alive());
  };
  while ((await store.call('pendingSends', null)) > 0) {
    rounds += 1;
    await replayOnce({ outbox, deliverer, clock, concurrency: 32, deviceId: null, ignoreDue: true, stop, onTried });
  }
  await store.close();
  console.log(JSON.stringify({ tries, rounds, longestPage, grownMb: (most - before) / 2 ** 20 }));
`;

/** A promise that the test resolves. */
function heldBack(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>(done => (resolve = done));
  return { promise, resolve };
}
