import { sha256Hex, wipe } from '../../core/bytes.ts';
import { Fault } from '../../core/errors.ts';
import type { OpenWrite } from '../../core/ledger.ts';
import { CANONICAL_PRIVATE_BYTES } from '../../keys/canonical.ts';
import { keyPairOf } from '../../keys/key-pair-of.ts';
import type { KeyPair } from '../../keys/make-key-pair.ts';
import { modulusOf } from '../../keys/public-key.ts';
import { FIRMWARE_PRIVATE_KEY_BYTES } from '../../photon/dct.ts';
import { firmwareReads } from '../../photon/firmware-key-reader.ts';
import { composeBlock, dctOf } from '../block.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step, StepContext } from '../step.ts';

const TRIES = 3;

/**
 * Step 4: a key that this very firmware can read. One that an interrupted attempt made and recorded is used again,
 * never a second one where the first will do. What it leaves in the work is committed, sealed, by the step `write`
 * before the device is touched.
 */
export const newKey: Step<NoOptions> = {
  name: 'new-key',
  options: NO_OPTIONS,
  deadlineMs: 60_000,
  async run(context) {
    const { plan, work } = context;
    if (work.open && work.resume === 'write' && plan.claims && !work.claimCode) {
      work.resume = 'anew'; // the claim code of that block can't be had again
    }
    if (work.open && work.resume === 'write') {
      const pair = await recordedKey(context, work.open);
      const block = composeBlock(plan, dctOf(work), pair, work.claimCode);
      if (sha256Hex(block.next) === work.open.newSha256) {
        work.key = pair;
        work.block = block;
        return 'skipped';
      }
      work.resume = 'anew'; // the job says something else by now
      wipe(pair.privateDer, block.old, block.next);
    }
    if (work.resume !== 'fresh' && work.resume !== 'anew') return 'skipped';
    const pair = await usableKey(context.makeKey);
    work.key = pair;
    if (!plan.claims) work.block = composeBlock(plan, dctOf(work), pair); // else by the step that has the code
    return 'ok';
  },
};

async function usableKey(makeKey: () => Promise<KeyPair>): Promise<KeyPair> {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const pair = await makeKey();
    if (isUsable(pair)) return pair;
    wipe(pair.privateDer);
  }
  throw new Fault('KEY_UNUSABLE', `${TRIES} fresh keys in a row were not readable for the firmware`);
}

/** The key as it will lie in the field, read by the firmware's own way of reading: it has to be the other half of the public one. */
export function isUsable({ privateDer, spki, fingerprint }: KeyPair): boolean {
  if (privateDer.length !== CANONICAL_PRIVATE_BYTES || sha256Hex(spki) !== fingerprint) return false;
  const n = modulusOf(spki);
  if (n === null) return false;
  const field = Buffer.alloc(FIRMWARE_PRIVATE_KEY_BYTES, 0xff);
  field.set(privateDer);
  const usable = firmwareReads(field, { n });
  wipe(field);
  return usable;
}

/** The key of an open write, out of the vault; wipe it after use. @throws Fault VAULT_CLOSED and others, where it can't be had */
export async function recordedKey({ subject, vault }: StepContext, open: OpenWrite): Promise<KeyPair> {
  const { key } = open;
  if (!key?.sealedPrivate) throw new Fault('BUG', 'a re-key is on record without its key');
  const privateDer = await vault.open(key.sealedPrivate, {
    purpose: 'private-key',
    deviceId: subject.deviceId,
    generation: key.generation,
    fingerprint: key.fingerprint,
  });
  const pair = keyPairOf(privateDer);
  if (pair?.fingerprint !== key.fingerprint) {
    wipe(pair?.privateDer);
    throw new Fault('VAULT_SEALED_WRONG', `the sealed key of generation ${key.generation} is not the one on record`);
  }
  return pair;
}
