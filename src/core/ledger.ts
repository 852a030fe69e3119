import type { DeviceId } from './device-id.ts';
import type { FaultCode } from './errors.ts';
import type { EndedFlash, NewFlash, OpenFlash, SeenModules } from './firmware-record.ts';
import type { CloudState, Outcome } from './outcomes.ts';
import type { UsbPath } from './usb-path.ts';

/**
 * Phases of a write on disk, each committed before the act that follows it:
 *
 *   prepared → writing → verified → accepted | unknown | refused
 *   accepted, unknown → left        refused → rolling-back → rolled-back
 *   accepted → refused              where the cloud's handshake proves that the device can't connect with it
 *
 * `abandoned`: the device was found with other bytes, and a later write began anew.
 */
export const OPEN_PHASES = [
  'prepared',
  'writing',
  'verified',
  'accepted',
  'unknown',
  'refused',
  'rolling-back',
] as const;
export const CLOSED_PHASES = ['left', 'rolled-back', 'abandoned'] as const;
export type OpenPhase = (typeof OPEN_PHASES)[number];
export type WritePhase = OpenPhase | (typeof CLOSED_PHASES)[number];

/**
 * Whether the cloud may hold a key that it refused. `stored`: it may have kept it all the same, and telling it the old key
 * again mends that. `late`: an earlier try got no answer at all and may yet be carried out, after whatever is sent now.
 */
export const REFUSAL_DOUBTS = ['none', 'stored', 'late'] as const;
export type RefusalDoubt = (typeof REFUSAL_DOUBTS)[number];

/** Whether the cloud may end with the refused key: it can't be told the old one, or a late try may overtake that. */
export function isUncertain(doubt: RefusalDoubt, oldFingerprint: string | null): boolean {
  return doubt === 'late' || (doubt === 'stored' && oldFingerprint === null);
}

/** A write that was begun and not finished, as a resumed run finds it. */
export interface OpenWrite {
  readonly writeId: number;
  readonly phase: OpenPhase;
  readonly alternate: number;
  readonly offset: number;
  readonly length: number;
  readonly oldSha256: string;
  readonly newSha256: string;
  readonly backup: BackupRecord & { readonly sealed: Uint8Array };
  /** The key that the new block carries; null for a write without one (job server-key, a backup without a key). */
  readonly key: {
    readonly keyId: number;
    readonly generation: number;
    readonly fingerprint: string;
    readonly publicPem: string;
    /** null for a restored key, whose private half lies in its backup. */
    readonly sealedPrivate: Uint8Array | null;
    readonly sendId: number;
  } | null;
  /** The backup whose keys the new block carries; null for any other write. */
  readonly restores: number | null;
  readonly doubt: RefusalDoubt;
  /** Why, where it was the cloud's handshake that refused a key which the cloud had accepted. */
  readonly proofRefused?: string;
}

export interface BackupRecord {
  readonly backupId: number;
  readonly sha256: string;
  readonly bytes: number;
  readonly classification: string;
  readonly fingerprint: string | null;
  /** Epoch milliseconds. */
  readonly takenAt: number;
}

export interface NewBackup {
  readonly deviceId: DeviceId;
  readonly attemptId: number;
  readonly takenAt: number;
  readonly sha256: string;
  readonly bytes: number;
  readonly classification: string;
  readonly fingerprint: string | null;
  readonly sealed: Uint8Array;
}

/** The intent: everything that is on disk before a device is written. */
export interface NewWrite {
  readonly deviceId: DeviceId;
  readonly attemptId: number;
  readonly backupId: number;
  readonly alternate: number;
  readonly offset: number;
  readonly length: number;
  readonly oldSha256: string;
  readonly newSha256: string;
  readonly key: NewKey | null;
  /** The backup whose keys are put back; its key, if it holds one, goes on record as restored. */
  readonly restores?: number;
  readonly at: number;
}

export interface NewKey {
  /** null: the next one of the device, where what is sealed does not say which. */
  readonly generation: number | null;
  readonly fingerprint: string;
  readonly publicPem: string;
  readonly algorithm: 'rsa';
  readonly bits: number;
  /** null for a restored key, whose private half lies in its backup. */
  readonly sealedPrivate: Uint8Array | null;
  readonly productId: string | null;
}

/** How the session's part of the record is written. What a method promises is durable when its promise resolves. */
export interface Ledger {
  beginAttempt(attempt: {
    runId: number;
    deviceId: DeviceId;
    path: UsbPath;
    platform: string;
    bootloader: string;
    at: number;
  }): Promise<{ attemptId: number }>;
  saveBackup(backup: NewBackup): Promise<{ backupId: number }>;
  /** The newest unfinished write of a device, if any. */
  openWrite(deviceId: DeviceId): Promise<OpenWrite | null>;
  nextGeneration(deviceId: DeviceId): Promise<number>;
  /** Phase prepared: key, send (held) and intent in one transaction. */
  prepareWrite(write: NewWrite): Promise<{ writeId: number; keyId: number | null; sendId: number | null }>;
  /** Phase writing; false while a send of this device is in flight, and then nothing has changed. */
  markWriting(write: { writeId: number; at: number }): Promise<boolean>;
  /** Phase verified; in the same transaction the key becomes active, its send pending and older ones superseded. */
  markVerified(write: { writeId: number; at: number }): Promise<void>;
  /**
   * Phase unknown: the send is left to the outbox; unless a `replay` beside the run is sending it this moment, or has had
   * a clear answer.
   * @returns the phase that holds now; `in-flight` where nothing has changed
   */
  markLeftToOutbox(write: { writeId: number; at: number }): Promise<'unknown' | 'accepted' | 'refused' | 'in-flight'>;
  /** The cloud's handshake went through with the key of this write: told to the journal. */
  recordProven(write: { writeId: number }): Promise<void>;
  /**
   * Phase refused, of a write whose key the cloud has accepted: its handshake said that the device can't connect. In the
   * same transaction its send is refused.
   * @param write.reason one line, for the record
   * @returns never `none`: the cloud has stored the key
   */
  recordProofRefused(write: { writeId: number; reason: string; at: number }): Promise<{ doubt: RefusalDoubt }>;
  /** Phase left. */
  markLeft(write: { writeId: number; at: number }): Promise<void>;
  /** Phase rolling-back; false while a send of this device is in flight. */
  markRollingBack(write: { writeId: number; at: number }): Promise<boolean>;
  /**
   * Phase rolled-back: the key is deactivated, the one before it is current again and its send pending, unless it was
   * accepted and `resend` is null. `resend` is the old public key where the cloud has to be told it again.
   * @returns the send that is pending now, if any
   */
  markRolledBack(write: {
    writeId: number;
    at: number;
    oldFingerprint: string | null;
    resend: { fingerprint: string; publicPem: string } | null;
  }): Promise<{ sendId: number | null }>;
  /**
   * Phase abandoned: other bytes were found on the device. Its key is deactivated and is not sent any more; where the
   * old bytes were found, the key before it is current again.
   */
  abandonWrite(write: { writeId: number; at: number; oldFingerprint: string | null }): Promise<void>;
  /** What was seen in each slot, where it is not what was seen there the last time. */
  noteModules(seen: SeenModules): Promise<void>;
  openFlash(deviceId: DeviceId): Promise<OpenFlash | null>;
  /** Before the first sector is erased. One that is open for the same modules is taken up, one for others is given up. */
  beginFlash(flash: NewFlash): Promise<{ flashId: number }>;
  endFlash(flash: EndedFlash): Promise<void>;
}

export type StepState = 'ok' | 'skipped' | 'failed' | 'aborted';

/** One step of an attempt, for the record. `ms` is its duration. */
export interface StepRecord {
  readonly name: string;
  readonly state: StepState;
  readonly startedAt: number;
  readonly ms: number;
}

/** What became of a row: the fleet settles it from what the session returns. */
export interface Settlement {
  readonly runId: number;
  readonly deviceId: DeviceId;
  readonly attemptId: number | null;
  readonly path: UsbPath | null;
  readonly outcome: Outcome;
  readonly code: FaultCode | null;
  readonly message: string | null;
  readonly fingerprint: string | null;
  readonly cloud: CloudState;
  readonly durationMs: number;
  readonly steps: readonly StepRecord[];
  readonly at: number;
}

/** A send that this process alone may make now. */
export interface LeasedSend {
  readonly sendId: number;
  readonly deviceId: DeviceId;
  readonly generation: number;
  readonly fingerprint: string;
  readonly publicPem: string;
  readonly productId: string | null;
  /** Tries that ended without a clear answer before this one. */
  readonly unknowns: number;
  /** Of these, tries to which no answer came: each may yet be carried out, however late. */
  readonly unanswered: number;
  readonly attempts: number;
}

/** A send that its holder has had an answer to, or has given up waiting for one. Only its own lease ends. */
export interface Answered {
  readonly sendId: number;
  readonly owner: string;
  readonly at: number;
}

/** The outbox as the one who drains it sees it. */
export interface Outbox {
  /**
   * Takes the device's one pending send, if it is due (or `ignoreDue`), nobody else holds one of this device, and the
   * device is neither writing nor rolling back.
   */
  leaseSend(lease: {
    sendId: number;
    owner: string;
    at: number;
    untilAt: number;
    ignoreDue: boolean;
  }): Promise<LeasedSend | null>;
  /**
   * @returns false where the cloud is to be told once more, later: a try of another key of this device got no answer, and
   * may yet be carried out after this one. The send is accepted, and due again then.
   */
  recordAccepted(send: Answered & { status: number }): Promise<boolean>;
  /** Parks the send; a device that has not left yet is then rolled back. */
  recordRefused(send: Answered & { status: number; error: string; doubt: RefusalDoubt }): Promise<void>;
  /** `mayLandLate`: no answer came, and the request may yet be carried out. */
  recordUnknown(
    send: Answered & { status: number | null; error: string; mayLandLate: boolean; nextAt: number },
  ): Promise<void>;
  /** The state of a send now: held, pending, accepted, refused, superseded or dropped. */
  stateOf(sendId: number): Promise<string | null>;
  /** The sends that are due, oldest first, in pages: the first `limit` (500) of those after `afterSendId`. */
  dueSends(query: {
    at: number;
    ignoreDue: boolean;
    deviceId: DeviceId | null;
    afterSendId?: number;
    limit?: number;
  }): Promise<readonly DueSend[]>;
}

export interface DueSend {
  readonly sendId: number;
  readonly deviceId: DeviceId;
}

/** What the session asks of the cloud, without knowing it. */
export interface Sender {
  /** `pending`: unknown, offline, unauthorized or leased elsewhere; the send stays in the outbox. */
  deliver(sendId: number): Promise<Delivery>;
}

export type Delivery =
  /** `again`: an earlier key of the device may yet land, so the outbox tells the cloud this one once more. */
  | { readonly kind: 'accepted'; readonly again: boolean }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string; readonly doubt: RefusalDoubt }
  | { readonly kind: 'pending'; readonly reason: string };
