import { availableParallelism } from 'node:os';
import { systemClock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { makeKeyPair } from '../keys/make-key-pair.ts';
import type { KeyPair } from '../keys/make-key-pair.ts';
import type { Pool } from '../keys/supply.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { KeysArgs } from './commands/keys.ts';
import { configOf, openRecordForWork, openVault } from './compose.ts';
import { EXIT } from './exit-codes.ts';
import { onInterrupt } from './interrupt.ts';
import { keyPool } from './key-pool.ts';
import { checkWish } from './vault-choice.ts';

const MOST = 10_000;
/** So many at a time go on record; an interrupt keeps them. */
const AT_ONCE = 32;
const TELL_EVERY_MS = 2000;

/**
 * `keys prepare`: makes key pairs and keeps them, sealed, until a run needs them. Takes the database as a run does, since a
 * run may be using up what is there. @returns the exit code
 */
export async function prepareKeys(args: KeysArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const count = countOf(args);
  const { out } = context;
  const warn = (message: string): void => out.talk(`warning: ${message}`);
  const config = configOf(args, {}, context);
  checkWish(config);
  await using store = await openRecordForWork(config, context.env, false);
  const vault = await openVault(config, store, { warn });
  const pool = keyPool(store, vault.forPrepared(), warn);
  const interrupt = onInterrupt(out, 'stopping: the pairs that have been made are kept');
  let made = 0;
  let toldMs = systemClock.monotonicMs();
  try {
    while (made < count && !interrupt.signal.aborted) {
      made += await makeSome(Math.min(AT_ONCE, count - made), pool, interrupt.signal);
      if (made === count || systemClock.monotonicMs() - toldMs < TELL_EVERY_MS) continue;
      toldMs = systemClock.monotonicMs();
      out.talk(`${made} of ${count} key pairs made`);
    }
  } finally {
    interrupt.dispose();
  }
  const prepared = await pool.count();
  if (args.json) out.result(JSON.stringify({ made, prepared }));
  else out.result(`${pairs(made)} made; ${pairs(prepared)} prepared in ${config.values.db}`);
  return interrupt.signal.aborted ? EXIT.INTERRUPTED : EXIT.OK;
}

function countOf({ action, what, state, time, why, count, from, identity }: KeysArgs): number {
  if (
    from !== undefined ||
    identity !== undefined ||
    what !== undefined ||
    state !== undefined ||
    time !== undefined ||
    why !== undefined
  ) {
    throw new Fault('USAGE', `keys ${action} takes nothing but --count`, {
      hint: '`photon-fleet keys prepare --count 120` makes 120 key pairs ahead',
    });
  }
  if (count === undefined || !Number.isInteger(count) || count < 1 || count > MOST) {
    throw new Fault('USAGE', `keys prepare takes --count, a whole number from 1 to ${MOST}`, {
      hint: 'as many as the next rack has devices: `photon-fleet keys prepare --count 120`',
    });
  }
  return count;
}

/** As many at a time as there are processors. */
async function makeSome(count: number, pool: Pool, stop: AbortSignal): Promise<number> {
  const made: KeyPair[] = [];
  let begun = 0;
  const work = async (): Promise<void> => {
    while (begun < count && !stop.aborted) {
      begun += 1;
      made.push(await makeKeyPair());
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  if (made.length > 0) await pool.put(made);
  return made.length;
}

function pairs(count: number): string {
  return count === 1 ? '1 key pair' : `${count} key pairs`;
}
