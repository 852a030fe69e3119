import { sha256Hex, wipe } from '../core/bytes.ts';
import { isClaimCode } from '../core/cloud-calls.ts';
import type { CallKind } from '../core/cloud-calls.ts';
import type { BackupRecord, OpenWrite } from '../core/ledger.ts';
import type { CloudState } from '../core/outcomes.ts';
import type { KeyPair } from '../keys/make-key-pair.ts';
import type { PublicKey } from '../keys/public-key.ts';
import { DCT, fieldOf } from '../photon/dct.ts';
import type { JobPlan } from './job.ts';

/**
 * What the record and the device together say is left to do (the resume table):
 *
 * | on record         | the new block is there | the old block is there        | something else        |
 * | prepared, writing | verify                 | write                         | anew                  |
 * | verified, unknown | send                   | anew (somebody restored it)   | anew                  |
 * | refused, rolling-back | roll-back          | rolled-back                   | conflict              |
 * | accepted          | leave                  | anew                          | anew                  |
 */
export type Resume =
  'fresh' | 'verify' | 'write' | 'send' | 'leave' | 'roll-back' | 'rolled-back' | 'anew' | 'conflict';

/** What a session knows of its device so far; each step leaves here what later ones need. */
export interface Work {
  /** Number of the alternate setting with the DCT. */
  alternate: number;
  /** Both system parts were found whole by the step `firmware`; false too where no such step looked. */
  partsWhole: boolean;
  /** Bytes 0..8390 of the DCT as they were read in preflight. */
  dct: Buffer | null;
  open: OpenWrite | null;
  resume: Resume;
  backup: (BackupRecord & { readonly publicKey: PublicKey | null }) | null;
  /** The key that is to be written or was. */
  key: KeyPair | null;
  /** As it goes onto the device: 63 bytes. Stays for the whole session, since another one would make another block. */
  claimCode: Buffer | null;
  /** The block of the write: where, and what was and will be there. */
  block: { readonly offset: number; readonly old: Buffer; readonly next: Buffer } | null;
  writeId: number | null;
  sendId: number | null;
  /** Of the key on the device once the session is through. */
  fingerprint: string | null;
  cloud: CloudState;
  /** Worth saying of a device that passed. */
  note: { readonly message: string; readonly hint: string | null } | null;
  /** Fingerprint of the key with which this session has tried the cloud's handshake. */
  proofTried: string | null;
  /** Calls of this session that the cloud has carried out. */
  called: readonly CallKind[];
  /** This session has written to the device, or taken up a write that an earlier one began. */
  underWay: boolean;
  /** The write of which this session has sent a block to the device: its new one, or the old one in a roll-back. */
  sentWriteId: number | null;
}

export function newWork(): Work {
  return {
    alternate: -1,
    partsWhole: false,
    dct: null,
    open: null,
    resume: 'fresh',
    backup: null,
    key: null,
    claimCode: null,
    block: null,
    writeId: null,
    sendId: null,
    fingerprint: null,
    cloud: 'none',
    note: null,
    proofTried: null,
    called: [],
    underWay: false,
    sentWriteId: null,
  };
}

/** For another go at the same device: what is there now is read anew, what the session has come to know stays. */
export function renewWork(work: Work): Work {
  wipeRead(work);
  const { claimCode, fingerprint, cloud, note, proofTried, called, underWay, sentWriteId } = work;
  return { ...newWork(), claimCode, fingerprint, cloud, note, proofTried, called, underWay, sentWriteId };
}

/** Beside what there is to say already; the same thing once. */
export function addNote(work: Work, { message, hint }: NonNullable<Work['note']>): void {
  const { note } = work;
  if (note?.message.includes(message)) return;
  work.note = note ? { message: `${note.message}; ${message}`, hint: note.hint ?? hint } : { message, hint };
}

/** Key bytes do not outlive the session. */
export function wipeWork(work: Work): void {
  wipeRead(work);
  wipe(work.claimCode ?? undefined);
}

function wipeRead(work: Work): void {
  wipe(work.dct ?? undefined, work.key?.privateDer, work.block?.old, work.block?.next);
}

/** Compares the bytes on the device with those on record: an old key may be blank or garbage and has no fingerprint. */
export function decideResume(open: OpenWrite | null, dct: Uint8Array): Resume {
  if (!open) return 'fresh';
  const there = sha256Hex(dct.subarray(open.offset, open.offset + open.length));
  const isNew = there === open.newSha256;
  const isOld = there === open.oldSha256;
  switch (open.phase) {
    case 'prepared':
    case 'writing':
      return isNew ? 'verify' : isOld ? 'write' : 'anew';
    case 'verified':
    case 'unknown':
      return isNew ? 'send' : 'anew';
    case 'refused':
    case 'rolling-back':
      return isNew ? 'roll-back' : isOld ? 'rolled-back' : 'conflict';
    case 'accepted':
      return isNew ? 'leave' : 'anew';
  }
}

/**
 * Whether an open write was begun by the same kind of job: with the same backup where it puts one back, with a key or
 * without, and, where the job writes a claim code, over its field too.
 */
export function isOfThisJob(open: OpenWrite, plan: JobPlan): boolean {
  if (plan.restore || open.restores !== null) return open.restores === plan.restore?.backupId;
  if ((open.key !== null) !== plan.newKey) return false;
  if (!plan.newKey) return open.offset === DCT.CLAIM_CODE.offset ? plan.claims === true : plan.claims !== true;
  return plan.claims !== true || open.offset + open.length > DCT.CLAIM_CODE.offset;
}

/** Whether the block of the open write is there, and has no claim code where the job writes one. */
export function lacksClaimCode({ resume, dct }: Work, plan: JobPlan): boolean {
  if (!plan.claims || !dct || !['verify', 'send', 'leave'].includes(resume)) return false;
  return !isClaimCode(Buffer.from(fieldOf(dct, DCT.CLAIM_CODE)).toString('latin1'));
}

/** Fingerprint of the key that this session has written, or the one before it that it takes up; null: of none. */
export function fingerprintWritten({ resume, key, open }: Work, plan: JobPlan): string | null {
  const begun = resume === 'fresh' || resume === 'anew';
  return (begun ? (key ?? plan.restore?.publicKey) : open?.key)?.fingerprint ?? null;
}

/** Whether the device was found with the bytes that it had before the open write. */
export function oldBlockIsThere(open: OpenWrite, dct: Uint8Array): boolean {
  return sha256Hex(dct.subarray(open.offset, open.offset + open.length)) === open.oldSha256;
}
