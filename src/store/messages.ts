import type { Facts, FaultCode } from '../core/errors.ts';
import { Fault } from '../core/errors.ts';
import type { OperationName } from './operations.ts';

export interface WorkerSettings {
  readonly path: string;
  readonly create: boolean;
  readonly migrationsDir: string;
  readonly operator: string;
  /** Locks to hold as long as the store is open, in this order. */
  readonly locks: readonly string[];
}

export interface Request {
  readonly id: number;
  readonly name: OperationName | 'close';
  readonly input: unknown;
}

export type Reply =
  | { readonly type: 'ready' }
  | { readonly type: 'done'; readonly id: number; readonly output: unknown }
  | { readonly type: 'failed'; readonly id: number | null; readonly fault: PlainFault };

/** A Fault as it crosses the border between threads. */
export interface PlainFault {
  readonly code: FaultCode;
  readonly message: string;
  readonly facts: Facts;
  readonly hint: string;
  readonly stack: string | undefined;
}

export function toPlain(fault: Fault): PlainFault {
  const { code, message, facts, hint } = fault;
  return { code, message, facts, hint, stack: fault.stack };
}

export function fromPlain({ code, message, facts, hint }: PlainFault): Fault {
  return new Fault(code, message, { facts, hint });
}
