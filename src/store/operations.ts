import * as attempts from './ops/attempts.ts';
import * as check from './ops/check.ts';
import * as history from './ops/history.ts';
import * as outbox from './ops/outbox.ts';
import * as quarantine from './ops/quarantine.ts';
import * as reports from './ops/reports.ts';
import * as runs from './ops/runs.ts';
import { planRows } from './ops/standing.ts';
import * as upkeep from './ops/upkeep.ts';
import * as writes from './ops/writes.ts';

/** Everything that can be asked of the record, by name: the worker thread runs them, the main thread only names them. */
export const OPERATIONS = {
  ...attempts,
  ...check,
  ...history,
  ...outbox,
  ...quarantine,
  ...reports,
  ...runs,
  planRows,
  ...upkeep,
  ...writes,
};

export type Operations = typeof OPERATIONS;
export type OperationName = keyof Operations;
export type OperationInput<N extends OperationName> = Operations[N] extends (db: never, input: infer I) => unknown
  ? unknown extends I
    ? undefined
    : I
  : undefined;
export type OperationOutput<N extends OperationName> = ReturnType<Operations[N]>;

/** Those that SQLite does not take inside a transaction. */
export const OUTSIDE_TRANSACTION: readonly OperationName[] = ['backupTo'];
