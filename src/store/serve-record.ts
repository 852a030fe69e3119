import type { MessagePort } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { failPoint } from '../core/fail-points.ts';
import { asFault, openDatabase } from './database.ts';
import type { Db } from './db.ts';
import { toPlain } from './messages.ts';
import type { PlainFault, Reply, Request, WorkerSettings } from './messages.ts';
import { OUTSIDE_TRANSACTION, READS } from './operations.ts';
import type { OperationName } from './operations.ts';
import { perform } from './perform.ts';
import { takeLock } from './station-lock.ts';

/*
 * The thread that owns the database, which the first message names. Requests that came while a commit was on its way are
 * committed together, in one transaction, in which one failure doesn't undo its neighbours. No reply goes before the commit.
 */

const locks: (() => void)[] = [];
let owner: MessagePort | undefined;
let onShut = (): void => undefined;
let db: Db | undefined;
let queue: Request[] = [];
let scheduled = false;

function post(replies: readonly Reply[]): void {
  owner?.postMessage(replies);
}

function performed(open: Db, { name, input }: Request): unknown {
  return perform(open, name as OperationName, input as never);
}

function flush(): void {
  scheduled = false;
  const batch = queue;
  queue = [];
  if (!db) return;
  let together: Request[] = [];
  for (const request of batch) {
    if (request.name === 'close') {
      commit(db, together);
      shut();
      return;
    }
    if (OUTSIDE_TRANSACTION.includes(request.name)) {
      commit(db, together);
      together = [];
      post([answered(db, request)]);
    } else {
      together.push(request);
    }
  }
  commit(db, together);
}

function commit(open: Db, requests: readonly Request[]): void {
  if (requests.length === 0) return;
  let replies: readonly Reply[];
  try {
    replies = requests.every(({ name }) => isRead(name))
      ? requests.map(request => answered(open, request))
      : transacted(open, requests);
    for (const { name } of requests) failPoint(`record:${name}:committed`);
  } catch (error) {
    rollBack(open);
    const fault = toPlain(asFault(error, open.raw.name));
    post(requests.map(({ id }) => ({ type: 'failed', id, fault })));
    return;
  }
  post(replies);
}

/** Mostly all go through. Where one does not, all are taken back and carried out again, so that this one fails alone. */
function transacted(open: Db, requests: readonly Request[]): Reply[] {
  const each = (write: typeof done): Reply[] =>
    requests.map(request => (isRead(request.name) ? answered(open, request) : write(open, request)));
  let replies: Reply[];
  begin(open);
  try {
    replies = each(done);
  } catch {
    rollBack(open);
    begin(open);
    replies = each(doneAlone);
  }
  end(open);
  return replies;
}

function done(open: Db, request: Request): Reply {
  const output = performed(open, request);
  failPoint(`record:${request.name}:performed`);
  return { type: 'done', id: request.id, output };
}

/** With a savepoint: what fails undoes nothing but itself. */
function doneAlone(open: Db, request: Request): Reply {
  open.run('SAVEPOINT one');
  let reply: Reply;
  try {
    reply = done(open, request);
  } catch (error) {
    if (!open.raw.inTransaction) throw error; // SQLite itself has rolled everything back (a full disk)
    open.run('ROLLBACK TO one');
    reply = { type: 'failed', id: request.id, fault: toPlain(asFault(error, open.raw.name)) };
  }
  open.run('RELEASE one');
  return reply;
}

function begin(open: Db): void {
  open.run('BEGIN IMMEDIATE');
  open.journal.hold();
}

function end(open: Db): void {
  open.run('COMMIT');
  open.journal.letGo();
}

function rollBack(open: Db): void {
  open.journal.takeBack();
  if (open.raw.inTransaction) open.run('ROLLBACK');
}

/** For what changes nothing, or is in no transaction: if it fails, nothing has to be taken back. */
function answered(open: Db, request: Request): Reply {
  try {
    return { type: 'done', id: request.id, output: performed(open, request) };
  } catch (error) {
    return { type: 'failed', id: request.id, fault: toPlain(asFault(error, open.raw.name)) };
  }
}

function isRead(name: Request['name']): boolean {
  return name !== 'close' && READS.has(name);
}

/** @param fault why it could not be opened: told once its locks are free */
function shut(fault?: PlainFault): void {
  db?.raw.close();
  for (const release of locks.reverse()) release();
  if (fault) post([{ type: 'failed', id: null, fault }]);
  owner?.close();
  onShut();
}

function open(settings: WorkerSettings): void {
  try {
    for (const lock of settings.locks) locks.push(takeLock(lock));
    db = openDatabase(settings);
    owner?.on('message', (asked: readonly Request[]) => {
      queue.push(...asked);
      if (scheduled) return;
      scheduled = true;
      setImmediate(flush);
    });
    post([{ type: 'ready' }]);
  } catch (error) {
    shut(toPlain(asFault(error, settings.path)));
  }
}

/**
 * Opens the record that the first message names, and serves it over `port`; a thread has one at most.
 * @param ended told when it is closed, or could not be opened: the port is closed then
 */
export function serveRecord(port: MessagePort, ended: () => void): void {
  owner = port;
  onShut = ended;
  port.once('message', open);
}

/** SQLite itself comes with the first database that is made, whichever it is: that is done while nobody waits. */
export function loadSqlite(): void {
  try {
    new Database(':memory:').close();
  } catch {
    // whoever opens a record is told
  }
}
