import type { DeviceId } from './device-id.ts';
import type { Answered } from './ledger.ts';
import type { CloudState } from './outcomes.ts';
import type { Secret } from './secret.ts';

/** Calls that a device may need beside the send of its key, in the order in which they are made. */
export const CALL_KINDS = ['add-to-product', 'name', 'confirm-online'] as const;
export type CallKind = (typeof CALL_KINDS)[number];

export const CALL_STATES = ['pending', 'done', 'refused', 'dropped', 'superseded'] as const;
export type CallState = (typeof CALL_STATES)[number];

/** A call as it goes on record. Nothing in it is a secret. */
export interface NewCall {
  readonly deviceId: DeviceId;
  readonly kind: CallKind;
  /** The body of the request, as JSON. */
  readonly payload: string;
  /** The product's number or slug; null for a call that needs none. */
  readonly productId: string | null;
}

/** A call that this process alone may make now. */
export interface LeasedCall extends NewCall {
  readonly callId: number;
  readonly attempts: number;
  /** When the cloud accepted the key that is on the device, epoch ms; null: of none that is known. */
  readonly keyAcceptedAt: number | null;
}

/** The call of a kind that a row asks for; null where the row does not say what it takes (no product, no name). */
export function callOf(
  kind: CallKind,
  row: { readonly deviceId: DeviceId; readonly productId: string | null; readonly name: string | null },
): NewCall | null {
  const { deviceId, productId, name } = row;
  switch (kind) {
    case 'add-to-product':
      return productId === null ? null : { deviceId, kind, productId, payload: JSON.stringify({ id: deviceId }) };
    case 'name':
      return name === null ? null : { deviceId, kind, productId: null, payload: JSON.stringify({ name }) };
    case 'confirm-online':
      return { deviceId, kind, productId: null, payload: '{}' };
  }
}

/** What became of a call, as the one who asked for it is told. */
export type CallDelivery =
  | { readonly kind: 'done' }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string }
  /** Unknown, offline, not its turn, unauthorized or leased elsewhere; it stays in the outbox. */
  | { readonly kind: 'pending'; readonly reason: string };

/** What a session asks of the cloud beside the send of a key, without knowing it. */
export interface Caller {
  /**
   * On record first; then it is made, if it is its turn.
   * @param how.unlessDone the newest call of this kind for the device will do, if it said the same and is done
   */
  call(call: NewCall, how?: { readonly unlessDone: boolean }): Promise<CallDelivery>;
}

/** What the cloud says to who asks for a claim code. */
export type ClaimAnswer =
  /** 63 characters of the base64 alphabet. */
  | { readonly kind: 'code'; readonly code: Secret<string> }
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string }
  /** The token is bad: nobody asks any more. */
  | { readonly kind: 'unauthorized'; readonly reason: string }
  /** No clear answer: later it may be another. */
  | { readonly kind: 'unavailable'; readonly status: number | null; readonly reason: string }
  /** A success that holds no claim code. */
  | { readonly kind: 'invalid'; readonly status: number };

/** As the firmware keeps it: 63 characters of base64, without a NUL (device-os, platform/MCU/STM32F2xx: dct.h). */
export function isClaimCode(text: string): boolean {
  return /^[A-Za-z0-9+/]{63}$/.test(text);
}

/** Where a session gets claim codes from, without knowing the cloud. */
export interface Claimer {
  /** A fresh code for the account, or for a product of it; each is for one device. */
  claimCode(productId: string | null): Promise<ClaimAnswer>;
}

/** The calls on record as the one who makes them sees them. */
export interface CallOutbox {
  /** Supersedes an older pending one of its kind that says something else. */
  queueCall(call: NewCall & { unlessDone: boolean; at: number }): Promise<{ callId: number; state: CallState }>;
  /**
   * Takes a pending call, if it is due (or `ignoreDue`) and its turn: the key of its device is not waiting for the cloud, no
   * call that comes before it is pending, and nobody holds a call or the send of the device.
   */
  leaseCall(lease: {
    callId: number;
    owner: string;
    at: number;
    untilAt: number;
    ignoreDue: boolean;
  }): Promise<LeasedCall | null>;
  recordCallDone(call: CallAnswered & { status: number }): Promise<void>;
  /** Parks the call. */
  recordCallRefused(call: CallAnswered & { status: number; error: string }): Promise<void>;
  recordCallUnknown(call: CallAnswered & { status: number | null; error: string; nextAt: number }): Promise<void>;
  callStateOf(callId: number): Promise<CallState | null>;
  /** The calls of a kind that are due, oldest first, in pages as `Outbox.dueSends` has them. */
  dueCalls(query: {
    kind: CallKind;
    at: number;
    ignoreDue: boolean;
    deviceId: DeviceId | null;
    afterCallId?: number;
    limit?: number;
  }): Promise<readonly DueCall[]>;
}

export type CallAnswered = Omit<Answered, 'sendId'> & { readonly callId: number };

export interface DueCall {
  readonly callId: number;
  readonly deviceId: DeviceId;
  readonly kind: CallKind;
}

/** Where the cloud stands with a device when a call has ended so. */
export function cloudAfterCall(before: CloudState, { kind }: CallDelivery): CloudState {
  const now = kind === 'done' ? 'accepted' : kind;
  const worst: readonly CloudState[] = ['refused', 'pending', 'accepted', 'none'];
  return worst.find(state => state === before || state === now) ?? before;
}
