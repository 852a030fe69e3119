import { wipe } from '../../core/bytes.ts';
import { Fault, toFault } from '../../core/errors.ts';
import type { KeyPair } from '../../keys/make-key-pair.ts';
import { DCT } from '../../photon/dct.ts';
import { serverOf } from '../server-on-device.ts';
import { shakeHands } from '../shake-hands.ts';
import type { Proof, WrongKey } from '../shake-hands.ts';
import { takeBack } from '../roll-back.ts';
import { NO_OPTIONS } from '../step.ts';
import type { NoOptions, Step, StepContext } from '../step.ts';
import { addNote } from '../work.ts';
import { recordedKey } from './new-key.ts';

/**
 * Between send and leave: the cloud's handshake, with the key, the server key and the address that lie on the device. One
 * that the cloud refuses is taken back as a refused send is; one that could not be tried is noted, and the device goes on.
 */
export const prove: Step<NoOptions> = {
  name: 'prove',
  options: NO_OPTIONS,
  deadlineMs: 600_000,
  async run(context) {
    const { ledger, clock, work } = context;
    const { writeId } = work;
    if (writeId === null) throw new Fault('BUG', 'a proof without a write');
    if (work.proofTried !== null && work.proofTried === work.fingerprint) return 'skipped'; // by this very session
    if (work.cloud !== 'accepted') return untried(context, 'its key is not sent yet');
    const proof = await handshake(context);
    work.proofTried = work.fingerprint;
    if (proof.kind === 'untried') return untried(context, proof.reason);
    if (proof.kind === 'proven') {
      await ledger.recordProven({ writeId });
      return 'ok';
    }
    const { wrong } = proof;
    const said = `the cloud accepted the key, and its handshake refused the device: ${SAYS[wrong]}`;
    const reason = `handshake: ${SAYS[wrong]}`;
    const { doubt } = await ledger.recordProofRefused({ writeId, reason, at: clock.now() });
    return takeBack(context, { doubt, alreadyThere: false }, said, { code: 'HANDSHAKE_REFUSED', hint: HINTS[wrong] });
  },
};

const SAYS: Readonly<Record<WrongKey, string>> = {
  'server-key': 'the server key on the device is wrong',
  'device-key': 'the cloud has another device key on file',
  either: 'the cloud has another device key on file, or the server key on the device is wrong',
};

const HINTS: Readonly<Record<WrongKey, string>> = {
  'server-key':
    'put the right server key on the device (`server.key` and the job `server-key`), then `run --retry-failed`',
  'device-key':
    'see who else sends keys for this device, and whether `server.key` is the cloud’s own; then `run --retry-failed` gives it a fresh one',
  either: 'compare the server key on the device with the cloud’s (`server.key` names it), then `run --retry-failed`',
};

function untried({ work }: StepContext, reason: string): 'skipped' {
  addNote(work, {
    message: `not proven by a handshake: ${reason}`,
    hint: 'the key is verified on the device; whether it connects, it shows itself',
  });
  return 'skipped';
}

async function handshake(context: StepContext): Promise<Proof> {
  const { prover } = context;
  if (!prover) return { kind: 'untried', reason: 'this run has no way to the cloud’s handshake' };
  const server = serverOf(await serverField(context), prover.server);
  if (server.kind === 'unknown') return { kind: 'untried', reason: server.reason };
  const pair = await keyOf(context);
  if ('reason' in pair) return { kind: 'untried', reason: pair.reason };
  try {
    return await shakeHands(prover, { deviceId: context.subject.deviceId, server, pair });
  } finally {
    wipe(pair.privateDer);
  }
}

/** As it lies on the device now, and not as it was before the write. */
async function serverField({ device, work }: StepContext): Promise<Uint8Array> {
  const { offset, length } = DCT.SERVER_PUBLIC_KEY;
  return device.read(work.alternate, offset, length);
}

/** A copy of this session's key, or the recorded one of the session that was cut short; wipe it after use. */
async function keyOf(context: StepContext): Promise<KeyPair | { readonly reason: string }> {
  const { key, open, resume } = context.work;
  if (key) return { ...key, privateDer: Buffer.from(key.privateDer) };
  if (!open?.key || resume === 'fresh' || resume === 'anew') throw new Fault('BUG', 'a proof without a key');
  if (open.key.sealedPrivate === null) return { reason: 'its private key is not kept here' };
  try {
    return await recordedKey(context, open);
  } catch (error) {
    const fault = toFault(error);
    if (fault.code === 'BUG') throw fault;
    return { reason: `its private key can't be opened (${fault.code}: ${fault.message})` };
  }
}
