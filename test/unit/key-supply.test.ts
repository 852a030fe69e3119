import { beforeAll, describe, expect, test } from 'vitest';
import { makeKeyPair, type KeyPair } from '#src/keys/make-key-pair.ts';
import { KeySupply, type Pool } from '#src/keys/supply.ts';

let pairs: readonly KeyPair[] = [];
beforeAll(async () => {
  pairs = await Promise.all(Array.from({ length: 12 }, () => makeKeyPair()));
});

/** Pairs of which nobody has the private half but whoever asks for one. */
const copyOf = (n: number): KeyPair => ({ ...pairs[n]!, privateDer: Buffer.from(pairs[n]!.privateDer) });

/** A pool with the first pairs, and a maker of the others that makes one when it is told to. */
function bench(prepared: number, { atOnce = 2 } = {}) {
  const there = Array.from({ length: prepared }, (_, n) => copyOf(n));
  const put: KeyPair[] = [];
  const making: { pair: KeyPair; resolve: (pair: KeyPair) => void; reject: (error: Error) => void }[] = [];
  let made = prepared;
  const pool: Pool = {
    count: () => Promise.resolve(there.length),
    take: () => Promise.resolve(there.shift() ?? null),
    put: more => {
      put.push(...more);
      return Promise.resolve();
    },
  };
  const make = (): Promise<KeyPair> => {
    const pair = copyOf(made);
    made += 1;
    return new Promise((resolve, reject) => making.push({ pair, resolve, reject }));
  };
  /** Lets the pair that was begun first come to its end. */
  const finish = (): void => {
    const one = making.shift();
    if (!one) throw new Error('nothing is being made');
    one.resolve(one.pair);
  };
  const troubles: string[] = [];
  const onTrouble = (error: unknown): void => void troubles.push(String(error));
  return { pool, put, making, finish, troubles, open: () => KeySupply.open({ pool, make, atOnce, onTrouble }) };
}

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

describe('the keys of a run', () => {
  test('are those that are prepared, oldest first, and nothing is made as long as there are any', async () => {
    const { open, making } = bench(2);
    const supply = await open();
    supply.announce();
    supply.announce();
    expect((await supply.next()).fingerprint).toBe(pairs[0]!.fingerprint);
    expect((await supply.next()).fingerprint).toBe(pairs[1]!.fingerprint);
    expect(making).toHaveLength(0);
  });

  test('are taken when they are announced, so many ahead and no more', async () => {
    const { open, pool } = bench(0);
    const taken: number[] = [];
    pool.take = () => {
      taken.push(taken.length);
      return Promise.resolve(copyOf(0));
    };
    pool.count = () => Promise.resolve(40);
    const supply = await open();
    for (let n = 0; n < 3; n += 1) supply.announce();
    expect(taken).toHaveLength(3);
    for (let n = 0; n < 30; n += 1) supply.announce();
    await turn();
    expect(taken).toHaveLength(16);
    await supply.next();
    expect(taken).toHaveLength(17);
  });

  test('that are called off are not begun, and what was begun is the next one’s', async () => {
    const { open, making, finish } = bench(0, { atOnce: 1 });
    const supply = await open();
    supply.announce();
    supply.announce();
    supply.callOff();
    finish();
    await turn();
    expect(making).toHaveLength(0);
    supply.callOff();
    supply.announce();
    expect(making).toHaveLength(0);
    expect((await supply.next()).fingerprint).toBe(pairs[0]!.fingerprint);
  });

  test('of which more are announced than are prepared are made beside those that are taken', async () => {
    const { open, pool, making } = bench(0, { atOnce: 2 });
    pool.take = () => new Promise(() => undefined);
    pool.count = () => Promise.resolve(20);
    const supply = await open();
    for (let n = 0; n < 20; n += 1) supply.announce();
    expect(making).toHaveLength(0);
    for (let n = 0; n < 3; n += 1) supply.announce();
    expect(making).toHaveLength(2);
  });

  test('are begun when they are announced, as many at once as may be, and handed out as they come', async () => {
    const { open, making, finish } = bench(1, { atOnce: 2 });
    const supply = await open();
    for (let n = 0; n < 4; n += 1) supply.announce();
    expect(making).toHaveLength(2); // of three that the pool has not
    const asked = Array.from({ length: 4 }, () => supply.next());
    finish();
    await turn();
    expect(making).toHaveLength(2);
    finish();
    await turn();
    finish();
    const got = await Promise.all(asked);
    expect(new Set(got.map(({ fingerprint }) => fingerprint)).size).toBe(4);
    await turn();
    expect(making).toHaveLength(0);
  });

  test('that nobody announced are made as well', async () => {
    const { open, finish } = bench(0);
    const supply = await open();
    const asked = supply.next();
    await turn();
    finish();
    expect((await asked).fingerprint).toBe(pairs[0]!.fingerprint);
  });

  test('are made where the pool has fewer than it said: another pair could not be opened', async () => {
    const { open, pool, finish } = bench(1);
    const supply = await open();
    await pool.take();
    const asked = supply.next();
    await turn();
    finish();
    expect((await asked).fingerprint).toBe(pairs[1]!.fingerprint);
  });

  test('that were made and not asked for are wiped', async () => {
    const { open, making, put } = bench(0, { atOnce: 1 });
    const supply = await open();
    supply.announce();
    const { pair, resolve } = making.shift()!;
    resolve(pair);
    await supply.close();
    expect(put).toEqual([]);
    expect(pair.privateDer.every(byte => byte === 0)).toBe(true);
  });

  test('fail whoever waits where one can not be made, and the next is made anew', async () => {
    const { open, making, finish } = bench(0, { atOnce: 1 });
    const supply = await open();
    const asked = supply.next();
    await turn();
    making.shift()!.reject(new Error('no entropy'));
    await expect(asked).rejects.toThrow('no entropy');
    const again = supply.next();
    await turn();
    finish();
    expect((await again).fingerprint).toBe(pairs[1]!.fingerprint);
  });
});

test('a pair that was announced and could not be made is made anew for whoever asks', async () => {
  const { open, making, finish } = bench(0, { atOnce: 1 });
  const supply = await open();
  supply.announce();
  making.shift()!.reject(new Error('no entropy'));
  await turn();
  const asked = supply.next();
  await turn();
  finish();
  expect((await asked).fingerprint).toBe(pairs[1]!.fingerprint);
});

describe('while a run idles', () => {
  test('pairs are made one at a time until as many are prepared as rows are open', async () => {
    const { open, making, finish, put } = bench(1, { atOnce: 4 });
    const supply = await open();
    supply.fill(3);
    supply.fill(3);
    await turn();
    expect(making).toHaveLength(1);
    finish();
    await turn();
    finish();
    await turn();
    expect(put).toHaveLength(2);
    expect(making).toHaveLength(0);
    await supply.close();
  });

  test('no further one is begun once a device has come', async () => {
    const { open, making, finish, put } = bench(0, { atOnce: 1 });
    const supply = await open();
    supply.fill(8);
    await turn();
    supply.announce();
    finish();
    await turn();
    expect(put).toHaveLength(1); // what was under way is kept, and the device's own is being made
    expect(making).toHaveLength(1);
    finish();
    await supply.close();
  });

  test('a pool that can not be filled is told of once, and not tried again', async () => {
    const { open, pool, finish, making, troubles } = bench(0);
    pool.put = () => Promise.reject(new Error('the disk is full'));
    const supply = await open();
    supply.fill(1);
    await turn();
    finish();
    await turn();
    supply.fill(1);
    await turn();
    expect(troubles).toEqual(['Error: the disk is full']);
    expect(making).toHaveLength(0);
    await supply.close();
  });
});
