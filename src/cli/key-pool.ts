import { availableParallelism } from 'node:os';
import { systemClock } from '../core/clock.ts';
import { Fault, toFault } from '../core/errors.ts';
import { keyPairOf } from '../keys/key-pair-of.ts';
import { makeKeyPair } from '../keys/make-key-pair.ts';
import type { KeyPair } from '../keys/make-key-pair.ts';
import { KeySupply, wipePairs } from '../keys/supply.ts';
import type { Pool } from '../keys/supply.ts';
import type { FleetParts } from '../fleet/options.ts';
import type { PreparedKey } from '../store/ops/prepared-keys.ts';
import type { Store } from '../store/store.ts';
import { preparedOf } from '../vault/sealed.ts';
import type { PoolVault, Vault } from '../vault/vault.ts';

/**
 * The pairs that lie prepared in the record, sealed.
 * @param warn told of a pair that could not be used: it is spent, and a fresh one does
 */
export function keyPool(store: Pick<Store, 'call'>, vault: PoolVault, warn: (message: string) => void): Pool {
  return {
    count: () => store.call('preparedKeys', undefined),
    async take() {
      const taken = await store.call('takePreparedKey', { at: systemClock.now() });
      if (!taken) return null;
      try {
        const pair = await openPrepared(taken, vault);
        return vault.sealsAsForDevices ? { ...pair, sealedPrivate: taken.sealed } : pair;
      } catch (error) {
        const { code, message } = toFault(error);
        if (code === 'BUG') throw error;
        warn(`a prepared key pair can't be used, a fresh one is made instead: ${message}`);
        return null;
      }
    },
    async put(pairs) {
      const at = systemClock.now();
      try {
        const sealed = await Promise.all(
          pairs.map(async ({ fingerprint, privateDer }) => ({
            fingerprint,
            sealed: await vault.seal(privateDer, { ...preparedOf(fingerprint), at }),
          })),
        );
        await store.call('addPreparedKeys', { pairs: sealed, at });
      } finally {
        wipePairs(pairs);
      }
    },
  };
}

/**
 * A prepared pair, checked against its row.
 * @returns a pair that the caller wipes
 * @throws Fault VAULT_SEALED_WRONG, VAULT_CLOSED
 */
export async function openPrepared({ fingerprint, sealed }: PreparedKey, vault: Pick<Vault, 'open'>): Promise<KeyPair> {
  const pair = keyPairOf(await vault.open(sealed, preparedOf(fingerprint)));
  if (pair?.fingerprint === fingerprint) return pair;
  if (pair) wipePairs([pair]);
  throw new Fault('VAULT_SEALED_WRONG', 'it is not the one on record');
}

/** As many pairs as a run prepares by itself while it has nothing to do: a rack. */
const MOST_PREPARED = 128;

export interface SuppliedKeys extends AsyncDisposable {
  readonly parts: Pick<FleetParts, 'makeKey' | 'announceKey' | 'callOffKey' | 'whileIdle'>;
}

/** The keys of a run: those that are prepared, then fresh ones, made while devices are read. */
export async function suppliedKeys(
  store: Store,
  vault: PoolVault,
  warn: (message: string) => void,
): Promise<SuppliedKeys> {
  const pool = keyPool(store, vault, warn);
  const supply = await KeySupply.open({
    pool,
    make: makeKeyPair,
    atOnce: availableParallelism(),
    onTrouble: error => warn(`no more key pairs are prepared: ${toFault(error).message}`),
  });
  return {
    parts: {
      makeKey: () => supply.next(),
      announceKey: () => supply.announce(),
      callOffKey: () => supply.callOff(),
      whileIdle: openRows => supply.fill(Math.min(openRows, MOST_PREPARED)),
    },
    [Symbol.asyncDispose]: () => supply.close(),
  };
}
