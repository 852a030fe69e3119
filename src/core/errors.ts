import { FAULTS, type FaultCode } from './fault-codes.ts';
import type { Outcome } from './outcomes.ts';

export type { FaultCode } from './fault-codes.ts';

/** Facts that belong to a fault: device, path, address, values. Never a key, a token or bytes of a backup. */
export type Facts = Readonly<Record<string, string | number | boolean | null>>;

/**
 * Every failure that has a name. `message` says what failed, with the values; `hint` what the hand should do next.
 * @property code one of the closed list in fault-codes.ts
 */
export class Fault extends Error {
  readonly code: FaultCode;
  readonly facts: Facts;
  readonly hint: string;

  constructor(code: FaultCode, message: string, more: { facts?: Facts; hint?: string; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'Fault';
    this.code = code;
    this.facts = more.facts ?? {};
    this.hint = more.hint ?? FAULTS[code].hint;
  }
}

/** The one place through which an unknown throwable passes. */
export function toFault(thrown: unknown): Fault {
  if (thrown instanceof Fault) return thrown;
  const message =
    thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : 'something that is no error was thrown';
  return new Fault('BUG', message, { cause: thrown });
}

/** Whose fault it is, as the outcome of a row. */
export function outcomeOf(code: FaultCode): Outcome {
  switch (FAULTS[code].blame) {
    case 'device':
      return 'fail';
    case 'cloud':
      return 'refused';
    case 'station':
    case 'operator':
    case 'program':
      return 'error';
  }
}

/** Errors that came from the device or from its socket, and not from the station as such. */
export const DEVICE_ERRORS = ['USB_GONE', 'USB_IO'] as const satisfies readonly FaultCode[];

/** Whether an attempt that ended so counts against its device. */
export function countsAgainstDevice(outcome: Outcome, code: FaultCode | null): boolean {
  return outcome === 'fail' || (outcome === 'error' && (DEVICE_ERRORS as readonly unknown[]).includes(code));
}

/** The device has left the bus, by design or not. */
export function isGone(thrown: unknown): boolean {
  return thrown instanceof Fault && thrown.code === 'USB_GONE';
}

/** The transfer ran into its timeout. */
export function isTimeout(thrown: unknown): boolean {
  return thrown instanceof Fault && thrown.code === 'USB_TIMEOUT';
}

/** The DCT reads as zeros: broken system parts. */
export function isUnreadableDct(thrown: unknown): boolean {
  return thrown instanceof Fault && thrown.code === 'DCT_UNREADABLE';
}

/** Worth another try now, without a hand: permissions that udev has yet to set, a rack that still holds the device. */
export function isWorthRetryNow(thrown: unknown): boolean {
  return thrown instanceof Fault && FAULTS[thrown.code].retry === 'now';
}
