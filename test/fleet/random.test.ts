import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import type { Clock } from '#src/core/clock.ts';
import { systemClock } from '#src/core/clock.ts';
import { makeKeyPair, type KeyPair } from '#src/keys/make-key-pair.ts';
import {
  bounceAt,
  hang,
  powerCut,
  readUnstable,
  unplugAt,
  writeDrop,
  writeFlip,
  writeStall,
  type FaultRequest,
} from '#src/sim/fault-behaviours.ts';
import type { Behaviour } from '#src/sim/photon-behaviour.ts';
import { World } from '../support/world.ts';

/*
 * Random interleavings of steps, faults, crashes and restarts over the real ledger, a virtual rack with its flash in
 * files, and a cloud over HTTP. After each act the three promises are checked by a reader of its own; in the end, with
 * nothing in the way any more, device, record and cloud have to be of one mind.
 */

const DEVICES = 2;
const RUNS = Number(process.env['RANDOM_RUNS'] ?? 16);
const SEED = Number(process.env['RANDOM_SEED'] ?? 20_261_122);

/** A device's timeouts pass fifty times as fast. */
const quick: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now() * 50,
  sleep: (ms, signal) => systemClock.sleep(ms / 50, signal),
  after: (ms, act) => systemClock.after(ms / 50, act),
};

let pairs: readonly KeyPair[] = [];
beforeAll(async () => {
  pairs = await Promise.all(Array.from({ length: 96 }, () => makeKeyPair()));
});

function pairsInTurn(): () => KeyPair {
  let n = 0;
  return () => {
    const pair = pairs[n++ % pairs.length]!;
    return { ...pair, privateDer: Buffer.from(pair.privateDer) }; // sessions wipe what they are given
  };
}

const requests = [
  'dnload',
  'upload',
  'getstatus',
  'getstate',
  'abort',
  'write',
] as const satisfies readonly FaultRequest[];
const nth = fc.integer({ min: 1, max: 4 });
const where = fc.constantFrom(...requests);
const fault: fc.Arbitrary<{ says: string; make: () => Behaviour }> = fc.oneof(
  nth.map(n => ({ says: `write-stall:${n}`, make: () => writeStall(n) })),
  nth.map(n => ({ says: `write-drop:${n}`, make: () => writeDrop(n) })),
  nth.map(n => ({ says: `write-flip:${n}`, make: () => writeFlip(n) })),
  fc.constant({ says: 'write-drop', make: () => writeDrop() }),
  fc.constant({ says: 'write-flip', make: () => writeFlip() }),
  fc.constant({ says: 'read-unstable', make: () => readUnstable() }),
  fc.tuple(where, nth).map(([at, n]) => ({ says: `unplug:${at}:${n}`, make: () => unplugAt(at, n) })),
  fc.tuple(where, nth).map(([at, n]) => ({ says: `bounce:${at}:${n}`, make: () => bounceAt(at, n, 500) })),
  fc.tuple(where, nth).map(([at, n]) => ({ says: `hang:${at}:${n}`, make: () => hang(at, n) })),
  fc.constantFrom('old', 'new').map(copy => ({ says: `power-cut:${copy}`, make: () => powerCut(copy, 1) })),
);
const cloud = fc.constantFrom(
  null,
  null,
  null,
  'status:503',
  'status:403',
  'refuse-after-store',
  'lost',
  'status:401',
  'reset',
);
const cutAfter = fc.oneof(fc.constant(Infinity), fc.integer({ min: 0, max: 160 }));

type Act =
  | {
      kind: 'run';
      job: 'rekey' | 'backup' | 'server-key';
      again: boolean;
      retryFailed: boolean;
      offline: boolean;
      host: string;
      faults: ({ says: string; make: () => Behaviour } | null)[];
      cloud: string | null;
      cutAfter: number;
      restore?: { index: number; nth: number };
    }
  | { kind: 'replay'; cloud: string | null; cutAfter: number }
  | { kind: 'plug' }
  | { kind: 'meddle'; index: number; byte: number };

const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('run' as const),
      job: fc.constantFrom('rekey', 'rekey', 'rekey', 'server-key', 'backup'),
      again: fc.boolean(),
      retryFailed: fc.boolean(),
      offline: fc.integer({ min: 0, max: 4 }).map(n => n === 0),
      host: fc.constantFrom('one.example.com', 'two.example.com'),
      faults: fc.array(fc.option(fault, { freq: 2 }), { minLength: DEVICES, maxLength: DEVICES }),
      cloud,
      cutAfter,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('run' as const),
      job: fc.constant('rekey' as const),
      again: fc.constant(false),
      retryFailed: fc.constant(true),
      offline: fc.integer({ min: 0, max: 4 }).map(n => n === 0),
      host: fc.constant('one.example.com'),
      faults: fc.array(fc.option(fault, { freq: 2 }), { minLength: DEVICES, maxLength: DEVICES }),
      cloud,
      cutAfter,
      restore: fc.record({ index: fc.integer({ min: 0, max: DEVICES - 1 }), nth: fc.nat(5) }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('replay' as const), cloud, cutAfter }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'plug' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('meddle' as const),
      index: fc.integer({ min: 0, max: DEVICES - 1 }),
      byte: fc.integer({ min: 0, max: 255 }),
    }),
  },
);

async function perform(world: World, one: Act): Promise<void> {
  switch (one.kind) {
    case 'run':
      await world.run({ ...one, faults: one.faults.map(each => each?.make() ?? null) });
      break;
    case 'replay':
      await world.replay(one.cloud, one.cutAfter);
      break;
    case 'plug':
      world.plugAll();
      break;
    case 'meddle':
      await world.meddle(one.index, new Uint8Array(64).fill(one.byte));
      break;
  }
}

const PLAIN = {
  job: 'rekey',
  again: false,
  retryFailed: true,
  offline: false,
  host: 'one.example.com',
  faults: Array<Behaviour | null>(DEVICES).fill(null),
  cloud: null,
  cutAfter: Infinity,
} as const;

test(
  'whatever happens in whichever order, nothing is lost, and a calm run puts everything in order',
  { timeout: 600_000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { minLength: 1, maxLength: 7 }), async acts => {
        await using world = await World.open(quick, DEVICES, pairsInTurn());
        for (const one of acts) {
          await perform(world, one);
          expect(await world.breaches()).toEqual([]);
        }
        world.plugAll();
        await world.run(PLAIN); // finishes what was begun
        expect(await world.breaches()).toEqual([]);
        world.plugAll();
        const calm = await world.run({ ...PLAIN, again: true });
        expect(calm).toMatchObject({ pass: DEVICES, exitCode: 0 });
        expect(await world.breaches()).toEqual([]);
        for (let index = 0; index < DEVICES; index += 1) {
          const history = await world.store.call('deviceHistory', world.id(index));
          const active = history.keys.filter(({ state }) => state === 'active');
          expect(active).toMatchObject([{ fingerprint: world.keyOn(index), cloud: { state: 'accepted' } }]);
          expect(world.cloud.currentFingerprint(world.id(index))).toBe(world.keyOn(index));
        }
      }),
      {
        seed: SEED,
        numRuns: RUNS,
        interruptAfterTimeLimit: Number(process.env['RANDOM_MS'] ?? 30_000),
        markInterruptAsFailure: false,
      },
    );
  },
);
