import { closeSync, existsSync, fchmodSync, fstatSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { sha256Hex } from '../core/bytes.ts';
import { Fault } from '../core/errors.ts';
import { Db } from './db.ts';
import type { Guard } from './db.ts';
import { adoptRecord } from './journal/adopt.ts';
import { Journal } from './journal/journal.ts';
import { systemCode } from '../core/system-code.ts';

/** `PFLT` in the SQLite header says that a database is ours. */
const APPLICATION_ID = 0x50464c54;
const BUSY_TIMEOUT_MS = 10_000;
/** The migration that makes the journal. */
const JOURNAL_SCHEMA = 3;

export interface OpenDatabase {
  readonly path: string;
  /** Make it if it is not there; otherwise a missing file is a fault. */
  readonly create: boolean;
  readonly migrationsDir: string;
  /** Who answers for what is done, in the journal. */
  readonly operator?: string;
}

/**
 * Opens the station's record: WAL, synchronous=FULL, foreign keys; files 0600; forward-only migrations, and a newer
 * schema than this program knows is refused.
 * @throws Fault DB_UNREADABLE, DB_FOREIGN, DB_NEWER, DB_FAILED
 */
export function openDatabase({ path, create, migrationsDir, operator = 'unknown' }: OpenDatabase): Db {
  makeFile(path, create);
  const migrations = readMigrations(migrationsDir);
  let raw: Database.Database | undefined;
  try {
    raw = new Database(path, { timeout: BUSY_TIMEOUT_MS, fileMustExist: true });
    checkOwner(raw, path, migrations.length);
    raw.pragma('journal_mode = WAL');
    raw.pragma('synchronous = FULL');
    raw.pragma('temp_store = MEMORY'); // what a savepoint keeps, in no file
    // A rack's work: where nobody else has the record open, it is checked in when that is closed.
    raw.pragma('wal_autocheckpoint = 4000');
    raw.pragma('foreign_keys = ON');
    raw.pragma('trusted_schema = OFF');
    raw.pragma('secure_delete = ON'); // what was sealed anew is not to stay in free pages
    migrate(raw, migrations, operator);
    const journal = new Journal(raw, operator);
    journal.noteChanges();
    return new Db(raw, journal, {
      guards: () => guardsOf(migrations),
      openCopy: copy => openDatabase({ path: copy, create: false, migrationsDir, operator }),
    });
  } catch (error) {
    raw?.close();
    throw asFault(error, path);
  }
}

function makeFile(path: string, create: boolean): void {
  const stat = existsSync(path) ? statSync(path) : undefined; // one that can't be looked at fails below
  if (stat && !stat.isFile()) throw new Fault('DB_UNREADABLE', `${path} is not a file`);
  if (!stat && !create) {
    throw new Fault('DB_UNREADABLE', `there is no database at ${path}`, {
      hint: '`photon-fleet run` makes it; name another one with --db',
    });
  }
  if (!stat && createEmpty(path)) return;
  try {
    // WAL and shared memory take their mode from this file, so it is 0600 before SQLite sees it.
    const fd = openSync(path, 'r+');
    try {
      if (fstatSync(fd).mode & 0o077) fchmodSync(fd, 0o600);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new Fault('DB_UNREADABLE', `the database ${path} can't be opened (${systemCode(cause)})`, { cause });
  }
}

/** @returns false where another process was quicker */
function createEmpty(path: string): boolean {
  try {
    closeSync(openSync(path, 'wx', 0o600));
    return true;
  } catch (cause) {
    if (systemCode(cause) === 'EEXIST') return false;
    throw new Fault('DB_UNREADABLE', `the database ${path} can't be opened (${systemCode(cause)})`, { cause });
  }
}

function checkOwner(raw: Database.Database, path: string, newest: number): void {
  const applicationId = raw.pragma('application_id', { simple: true });
  const version = Number(raw.pragma('user_version', { simple: true }));
  const tables = raw.prepare<[], { n: number }>('SELECT count(*) AS n FROM sqlite_schema').get()?.n ?? 0;
  if (applicationId !== APPLICATION_ID && (tables > 0 || version !== 0)) {
    throw new Fault('DB_FOREIGN', `${path} is a database of another program`);
  }
  if (version > newest) {
    throw new Fault('DB_NEWER', `${path} has schema ${version}, and this program knows ${newest} at most`);
  }
}

/** What the migrations may ask for beside SQLite's own functions. */
function giveFunctions(raw: Database.Database): void {
  raw.function('sha256_hex', { deterministic: true, directOnly: true }, value =>
    value instanceof Uint8Array ? sha256Hex(value) : null,
  );
}

/** Each migration in a transaction of its own, so that a cut leaves a whole older schema. */
function migrate(raw: Database.Database, migrations: readonly string[], operator: string): void {
  giveFunctions(raw);
  for (const [index, sql] of migrations.entries()) {
    raw
      .transaction(() => {
        if (Number(raw.pragma('user_version', { simple: true })) !== index) return; // another process was quicker
        raw.exec(sql);
        raw.pragma(`application_id = ${APPLICATION_ID}`);
        raw.pragma(`user_version = ${index + 1}`);
        raw
          .prepare('INSERT OR IGNORE INTO station (only_one, station_id, created_at) VALUES (1, ?, ?)')
          .run(randomUUID(), Date.now());
        // The journal begins with what is on record, here and never again: one that is found empty later was emptied.
        if (index + 1 === JOURNAL_SCHEMA) adoptRecord(raw, new Journal(raw, operator));
      })
      .immediate();
  }
}

/** What the migrations make in an empty database. */
function guardsOf(migrations: readonly string[]): Guard[] {
  const empty = new Database(':memory:');
  try {
    giveFunctions(empty);
    for (const sql of migrations) empty.exec(sql);
    return empty
      .prepare<[], Guard>(`SELECT name, sql FROM sqlite_schema WHERE type IN ('trigger', 'index') AND sql IS NOT NULL`)
      .all();
  } finally {
    empty.close();
  }
}

function readMigrations(dir: string): string[] {
  const names = readdirSync(dir)
    .filter(name => /^\d{4}_[a-z0-9_]+\.sql$/.test(name))
    .sort();
  for (const [index, name] of names.entries()) {
    if (Number(name.slice(0, 4)) !== index + 1) throw new Error(`migrations are not in one row: ${name}`);
  }
  return names.map(name => readFileSync(join(dir, name), 'utf8'));
}

/** What SQLite threw, in the words of the house. */
export function asFault(error: unknown, path: string): Fault {
  if (error instanceof Fault) return error;
  const code = systemCode(error);
  if (code.startsWith('SQLITE_NOTADB'))
    return new Fault('DB_FOREIGN', `${path} is no SQLite database`, { cause: error });
  if (code.startsWith('SQLITE_CANTOPEN')) {
    return new Fault('DB_UNREADABLE', `the database ${path} can't be opened`, { cause: error });
  }
  if (code.startsWith('SQLITE_CORRUPT')) {
    return new Fault('RECORD_INVALID', `the database ${path} is damaged`, { cause: error });
  }
  if (code.startsWith('SQLITE_')) {
    const reason = error instanceof Error ? error.message : code;
    return new Fault('DB_FAILED', `the record can't be written: ${reason} (${code})`, {
      facts: { path },
      cause: error,
    });
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : 'something that is no error was thrown';
  return new Fault('BUG', message, { cause: error });
}
