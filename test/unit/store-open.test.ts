import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openDatabase } from '#src/store/database.ts';
import { compareWithJournal } from '#src/store/ops/audit.ts';
import { checkRecord } from '#src/store/ops/check.ts';
import { Store } from '#src/store/store.ts';
import { Child } from '../support/children.ts';
import { faultOf, RecordBench } from '../support/record-bench.ts';
import { modeOf, tempFolder } from '../support/temp-folder.ts';

const MIGRATIONS = new URL('../../migrations', import.meta.url).pathname;

let folder: ReturnType<typeof tempFolder>;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

function open(path: string, create = true): Promise<Store> {
  return Store.open({ path, create });
}

async function refusal(path: string, create = true): Promise<string> {
  const { code, message } = await faultOf(open(path, create).then(store => store.close()));
  return `${code}: ${message.replaceAll(folder.path, '…')}`;
}

const migrationFiles = (): string[] => readdirSync(MIGRATIONS).sort();

/** A folder with the migrations that there are, and one after them. */
function withOneMore(into: string, sql: string): void {
  const files = migrationFiles();
  mkdirSync(into);
  for (const name of files) copyFileSync(join(MIGRATIONS, name), join(into, name));
  writeFileSync(join(into, `${String(files.length + 1).padStart(4, '0')}_more.sql`), sql);
}

describe('a database', () => {
  test('is made from nothing, with the whole schema, and opened again as it is', async () => {
    const path = folder.file('a.db');
    await (await open(path)).close();
    const db = new Database(path);
    expect(db.pragma('user_version', { simple: true })).toBe(migrationFiles().length);
    expect(db.pragma('application_id', { simple: true })).toBe(Buffer.from('PFLT').readUInt32BE());
    const tables = db
      .prepare(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'`)
      .pluck();
    expect(tables.all().sort()).toEqual(
      [
        'attempts',
        'backups',
        'checkpoints',
        'cloud_calls',
        'devices',
        'flashings',
        'journal',
        'key_changes',
        'key_marks',
        'keys',
        'modules',
        'prepared_keys',
        'releases',
        'restores',
        'rows',
        'runs',
        'sends',
        'station',
        'steps',
        'working_identities',
        'writes',
      ].sort(),
    );
    const station = db.prepare('SELECT * FROM station').all();
    expect(station).toHaveLength(1);
    await (await open(path, false)).close();
    expect(db.prepare('SELECT * FROM station').all()).toEqual(station);
    db.close();
  });

  test('is made in an empty file too', async () => {
    writeFileSync(folder.file('a.db'), '');
    await using store = await open(folder.file('a.db'), false);
    expect(await store.call('pendingSends', null)).toBe(0);
  });

  test('is written with WAL, waits for the disk, and holds its foreign keys', async () => {
    const { raw } = openDatabase({ path: folder.file('a.db'), create: true, migrationsDir: MIGRATIONS });
    const said = ['journal_mode', 'synchronous', 'foreign_keys', 'trusted_schema'].map(name =>
      raw.pragma(name, { simple: true }),
    );
    raw.close();
    expect(said).toEqual(['wal', 2, 1, 0]);
    await using record = await RecordBench.openInThread();
    const device = await record.device();
    expect((await faultOf(device.attempt(99))).message).toBe(
      "the record can't be written: FOREIGN KEY constraint failed (SQLITE_CONSTRAINT_FOREIGNKEY)",
    );
  });

  test.each(['new', 'there already, for all to read'])('is 0600, and so are the files beside it (%s)', async how => {
    const path = folder.file('a.db');
    if (how !== 'new') {
      await (await open(path)).close();
      chmodSync(path, 0o666);
    }
    const before = process.umask(0);
    try {
      await using store = await open(path);
      await store.call('bindRecipient', 'age1x');
      expect([path, `${path}-wal`, `${path}-shm`].map(modeOf)).toEqual(['600', '600', '600']);
    } finally {
      process.umask(before);
    }
  });

  test('that grows by a migration keeps what is in it, and is then too new for the program before', async () => {
    const path = folder.file('a.db');
    await using record = await RecordBench.openInThread();
    const device = await record.device();
    await device.accepted('k');
    await record.store.call('backupTo', path);
    const grown = folder.file('migrations');
    const files = migrationFiles();
    withOneMore(grown, 'CREATE TABLE more (x INTEGER) STRICT; INSERT INTO more VALUES (1);');
    for (let again = 0; again < 2; again += 1) {
      const db = openDatabase({ path, create: false, migrationsDir: grown });
      expect(db.all('SELECT x FROM more')).toEqual([{ x: 1 }]);
      expect(db.all('SELECT fingerprint FROM keys')).toEqual([{ fingerprint: 'k' }]);
      db.raw.close();
    }
    expect(await refusal(path)).toBe(
      `DB_NEWER: …/a.db has schema ${files.length + 1}, and this program knows ${files.length} at most`,
    );
  });

  test('of the first schema grows up to this one, and knows which attempt took a write how far', () => {
    const path = folder.file('a.db');
    const old = new Database(path);
    old.exec(readFileSync(join(MIGRATIONS, '0001_first.sql'), 'utf8'));
    old.pragma(`application_id = ${Buffer.from('PFLT').readUInt32BE()}`);
    old.pragma('user_version = 1');
    const id = '1'.repeat(24);
    old.exec(`
      INSERT INTO station VALUES (1, 'the-station', 'age1mine', 1);
      INSERT INTO runs VALUES (1, 'rekey', '/r.csv', 'x', 0, 'running', 1, NULL, NULL);
      INSERT INTO devices VALUES ('${id}', 'photon', 'new', '1-1.1', 1, 1);
      INSERT INTO attempts VALUES (1, 1, '${id}', '1-1.1', 'error', 'USB_GONE', 'x', 10, 20), (2, 1, '${id}', '1-1.1', NULL, NULL, NULL, 30, NULL);
      INSERT INTO backups VALUES (1, '${id}', 1, 11, 'x', 8391, 'blank', NULL, x'00');
      INSERT INTO keys VALUES (1, '${id}', 1, 'f', 'rsa', 1024, 'made', 'active', 'pem', x'00', 12, 31, NULL);
      INSERT INTO sends VALUES (1, 1, '${id}', NULL, 'pending', 3, 2, 0, 503, 'busy', NULL, NULL, NULL, 12, 32);
      INSERT INTO writes VALUES (1, '${id}', 1, 1, 1, 1, 34, 100, 'o', 'n', 'unknown', 0, 12, 32);
    `);
    old.close();
    const db = openDatabase({ path, create: false, migrationsDir: MIGRATIONS });
    expect(db.all('SELECT last_attempt_id FROM writes')).toEqual([{ last_attempt_id: 2 }]);
    expect(db.all('SELECT unknowns, unanswered FROM sends')).toEqual([{ unknowns: 2, unanswered: 2 }]);
    expect(checkRecord(db)).toEqual([]);
    const sealed = createHash('sha256').update(Buffer.alloc(1)).digest('hex');
    expect(db.all('SELECT sealed_sha256 FROM keys UNION ALL SELECT sealed_sha256 FROM backups')).toEqual([
      { sealed_sha256: sealed },
      { sealed_sha256: sealed },
    ]);
    expect(db.all('SELECT vault_policy, vault_recipients FROM station')).toEqual([
      { vault_policy: 'local', vault_recipients: '["age1mine"]' },
    ]);
    expect(db.all('SELECT state, reason FROM key_changes')).toEqual([
      { state: 'pre-activation', reason: 'made' },
      { state: 'active', reason: 'verified on the device' },
    ]);
    // What was there before the journal is told by its first events.
    expect(compareWithJournal(db)).toMatchObject({ problems: [] });
    expect(db.all(`SELECT body ->> '$.event' AS event FROM journal WHERE seq < 3`)).toEqual([
      { event: 'journal-begun' },
      { event: 'record-adopted' },
    ]);
    db.raw.close();
  });

  test('whose migration fails half way is as it was before it', async () => {
    const path = folder.file('a.db');
    await (await open(path)).close();
    const broken = folder.file('migrations');
    withOneMore(broken, 'CREATE TABLE more (x INTEGER) STRICT; INSERT INTO nowhere VALUES (1);');
    expect(() => openDatabase({ path, create: false, migrationsDir: broken })).toThrow(/no such table: nowhere/);
    await using store = await open(path);
    expect(await store.call('checkRecord', undefined)).toEqual([]);
  });
});

describe('what is no database of ours is refused, and stays as it was', () => {
  test('a database of another program', async () => {
    const path = folder.file('a.db');
    const other = new Database(path);
    other.exec('CREATE TABLE mine (x)');
    other.close();
    const before = readFileSync(path);
    expect(await refusal(path)).toBe('DB_FOREIGN: …/a.db is a database of another program');
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('a file that is no database', async () => {
    const path = folder.file('a.db');
    for (const content of ['hello\n', 'device_id,name\n'.repeat(1000)]) {
      writeFileSync(path, content);
      expect(await refusal(path)).toBe('DB_FOREIGN: …/a.db is no SQLite database');
      expect(readFileSync(path, 'utf8')).toBe(content);
    }
  });

  test('a folder, and a path through a file or in a circle', async () => {
    expect(await refusal(folder.path)).toBe('DB_UNREADABLE: … is not a file');
    writeFileSync(folder.file('file'), '');
    symlinkSync(folder.file('loop'), folder.file('loop'));
    expect(await refusal(folder.file('file/a.db'))).toBe(
      "DB_UNREADABLE: the database …/file/a.db can't be opened (ENOTDIR)",
    );
    expect(await refusal(folder.file('loop/a.db'))).toBe(
      "DB_UNREADABLE: the database …/loop/a.db can't be opened (ELOOP)",
    );
    expect(await refusal(folder.file('nowhere/a.db'))).toBe(
      "DB_UNREADABLE: the database …/nowhere/a.db can't be opened (ENOENT)",
    );
  });

  test('a file that is not there, for a command that only reads', async () => {
    expect(await refusal(folder.file('a.db'), false)).toBe('DB_UNREADABLE: there is no database at …/a.db');
  });

  test('a file, or a folder, that this user may not open', async context => {
    const path = folder.file('a.db');
    await (await open(path)).close();
    const script = `const { openDatabase } = await import(dist + 'store/database.js');
      try { openDatabase({ path: argv[0], create: true, migrationsDir: argv[1] }); console.log('opened'); }
      catch (error) { console.log(error.code + ': ' + error.message); }`;
    const nobody = process.getuid?.() === 0 ? { uid: 65534 } : {};
    const said: (string | undefined)[] = [];
    for (const [folderMode, fileMode] of [
      [0o755, 0o000],
      [0o000, 0o600],
    ] as const) {
      chmodSync(path, fileMode);
      chmodSync(folder.path, folderMode);
      await using child = new Child(script, [path, MIGRATIONS], nobody);
      said.push((await child.ended())[0]);
      chmodSync(folder.path, 0o700);
      if (child.errors.includes('EACCES')) context.skip('the other user can not read the program itself');
    }
    expect(said).toEqual(Array(2).fill(`DB_UNREADABLE: the database ${path} can't be opened (EACCES)`));
  });
});

describe('a store that is closed', () => {
  test('has done first what was asked before, and answers no more', async () => {
    const store = await open(folder.file('a.db'));
    const asked = store.call('bindRecipient', 'age1x');
    const closed = store.close();
    await asked;
    await closed;
    expect(await faultOf(store.call('pendingSends', null))).toMatchObject({
      code: 'DB_FAILED',
      message: 'the database is closed',
    });
    await store.close();
  });

  test('brings what was done though its thread has ended before anybody here looked', async () => {
    const store = await open(folder.file('a.db'));
    const asked = store.call('bindRecipient', 'age1x');
    const closed = store.close();
    await new Promise(resolve => setImmediate(resolve)); // it is on its way
    const nobody = new Int32Array(new SharedArrayBuffer(4));
    Atomics.wait(nobody, 0, 0, 1000); // this event loop is busy for longer than the thread
    await expect(asked).resolves.toBeUndefined();
    await closed;
  });

  test('refuses what is asked after it was told to close, and leaves no WAL behind', async () => {
    const path = folder.file('a.db');
    const store = await open(path);
    const closed = store.close();
    const late = faultOf(store.call('pendingSends', null));
    expect((await late).code).toBe('DB_FAILED');
    await closed;
    expect(() => readFileSync(`${path}-wal`)).toThrow('ENOENT');
  });
});
