import type { CallOutbox } from '../core/cloud-calls.ts';
import type { Ledger, Outbox } from '../core/ledger.ts';
import type { Store } from './store.ts';

/** The narrow view of the record that a session is handed. */
export function ledgerOf(store: Store): Ledger {
  return {
    beginAttempt: attempt => store.call('beginAttempt', attempt),
    saveBackup: backup => store.call('saveBackup', backup),
    openWrite: deviceId => store.call('openWrite', deviceId),
    nextGeneration: deviceId => store.call('nextGeneration', deviceId),
    prepareWrite: write => store.call('prepareWrite', write),
    markWriting: write => store.call('markWriting', write),
    markVerified: write => store.call('markVerified', write),
    markLeftToOutbox: write => store.call('markLeftToOutbox', write),
    markLeft: write => store.call('markLeft', write),
    markRollingBack: write => store.call('markRollingBack', write),
    markRolledBack: write => store.call('markRolledBack', write),
    recordProven: write => store.call('recordProven', write),
    recordProofRefused: write => store.call('recordProofRefused', write),
    abandonWrite: write => store.call('abandonWrite', write),
    noteModules: seen => store.call('noteModules', seen),
    openFlash: deviceId => store.call('openFlash', deviceId),
    beginFlash: flash => store.call('beginFlash', flash),
    endFlash: flash => store.call('endFlash', flash),
  };
}

/** The narrow view of the record that the one who drains the outbox is handed. */
export function outboxOf(store: Store): Outbox {
  return {
    leaseSend: lease => store.call('leaseSend', lease),
    recordAccepted: send => store.call('recordAccepted', send),
    recordRefused: send => store.call('recordRefused', send),
    recordUnknown: send => store.call('recordUnknown', send),
    stateOf: sendId => store.call('stateOf', sendId),
    dueSends: query => store.call('dueSends', query),
  };
}

/** The narrow view of the record that the one who makes calls is handed. */
export function callOutboxOf(store: Store): CallOutbox {
  return {
    queueCall: call => store.call('queueCall', call),
    leaseCall: lease => store.call('leaseCall', lease),
    recordCallDone: call => store.call('recordCallDone', call),
    recordCallRefused: call => store.call('recordCallRefused', call),
    recordCallUnknown: call => store.call('recordCallUnknown', call),
    callStateOf: callId => store.call('callStateOf', callId),
    dueCalls: query => store.call('dueCalls', query),
  };
}
