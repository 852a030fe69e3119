import * as attempts from './ops/attempts.ts';
import * as audit from './ops/audit.ts';
import * as callsByHand from './ops/calls-by-hand.ts';
import * as check from './ops/check.ts';
import { beginFlash, endFlash, noteModules, openFlash } from './ops/firmware.ts';
import * as cloudCalls from './ops/cloud-calls.ts';
import * as history from './ops/history.ts';
import { keyAt } from './ops/key-at.ts';
import { findKeys, markKey } from './ops/key-audit.ts';
import { compromisedDevices } from './ops/on-device.ts';
import * as outbox from './ops/outbox.ts';
import * as preparedKeys from './ops/prepared-keys.ts';
import * as proof from './ops/proof.ts';
import * as quarantine from './ops/quarantine.ts';
import * as reports from './ops/reports.ts';
import * as restores from './ops/restores.ts';
import * as runs from './ops/runs.ts';
import { runStatement } from './ops/run-statement.ts';
import { planRows } from './ops/standing.ts';
import * as upkeep from './ops/upkeep.ts';
import * as vault from './ops/vault.ts';
import { weakDevices } from './ops/weak-keys.ts';
import * as writes from './ops/writes.ts';

/** Everything that can be asked of the record, by name: the worker thread runs them, the main thread only names them. */
export const OPERATIONS = {
  ...attempts,
  ...audit,
  callsReport: callsByHand.callsReport,
  pendingCalls: callsByHand.pendingCalls,
  retryCalls: callsByHand.retryCalls,
  dropCalls: callsByHand.dropCalls,
  ...check,
  beginFlash,
  endFlash,
  noteModules,
  openFlash,
  queueCall: cloudCalls.queueCall,
  dueCalls: cloudCalls.dueCalls,
  leaseCall: cloudCalls.leaseCall,
  callStateOf: cloudCalls.callStateOf,
  recordCallDone: cloudCalls.recordCallDone,
  recordCallRefused: cloudCalls.recordCallRefused,
  recordCallUnknown: cloudCalls.recordCallUnknown,
  compromisedDevices,
  findKeys,
  ...history,
  keyAt,
  markKey,
  ...outbox,
  ...preparedKeys,
  ...proof,
  ...quarantine,
  ...reports,
  ...restores,
  ...runs,
  planRows,
  runStatement,
  ...upkeep,
  ...vault,
  weakDevices,
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

/** Those of a session that only read: they need no savepoint, and have nothing to tell the journal. */
export const READS: ReadonlySet<OperationName> = new Set([
  'openWrite',
  'openFlash',
  'nextGeneration',
  'stateOf',
  'callStateOf',
  'preparedKeys',
]);

/** Those that SQLite does not take inside a transaction. */
export const OUTSIDE_TRANSACTION: readonly OperationName[] = ['backupTo', 'compareWithJournal', 'verifyPart'];
