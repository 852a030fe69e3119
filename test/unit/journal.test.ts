import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openDatabase } from '#src/store/database.ts';
import { verifyChain } from '#src/store/journal/chain.ts';
import type { JournalEvent } from '#src/store/journal/event.ts';
import { replayJournal } from '#src/store/journal/replay.ts';
import { trackedTables } from '#src/store/journal/tracked.ts';
import { perform } from '#src/store/perform.ts';
import { proveChain } from '#src/store/prove-chain.ts';
import { deviceIdOf, RecordBench } from '../support/record-bench.ts';

const MIGRATIONS = new URL('../../migrations', import.meta.url).pathname;

let record: RecordBench;
beforeEach(() => {
  record = RecordBench.open();
});
afterEach(() => record[Symbol.asyncDispose]());

const events = (): JournalEvent[] =>
  record
    .query<{ body: string }>('SELECT body FROM journal ORDER BY seq')
    .map(({ body }) => JSON.parse(body) as JournalEvent);
const names = (): string[] => events().map(({ event }) => event);
const firstWrong = (raw: Database.Database): number | undefined => {
  const until = raw.prepare<[], number>('SELECT coalesce(max(seq), 0) FROM journal').pluck().get()!;
  return verifyChain(raw, { after: 0, until, expected: '00'.repeat(32) }).problem?.seq;
};

/** A small record with a bit of everything: keyed, re-keyed and refused, released, left to the outbox. */
async function aHistory(): Promise<void> {
  const { runId } = await record.openRun([1]);
  const device = await record.device(1);
  await device.accepted('a', { left: true });
  await device.refused('b', 'a');
  await record.settle(runId, 1, 'refused', { code: 'CLOUD_REFUSED' });
  await record.finish(runId);
}

/** A copy of the record in memory, in which everything can be done that triggers forbid. */
function copyOfRecord(): Database.Database {
  const original = new Database(record.path);
  original.pragma('wal_checkpoint(TRUNCATE)');
  const bytes = original.serialize();
  original.close();
  bytes.fill(1, 18, 20); // no WAL in memory (SQLite's file format, section 1.3.3)
  const raw = new Database(bytes);
  raw.pragma('foreign_keys = OFF');
  raw.pragma('ignore_check_constraints = ON');
  const guards = raw
    .prepare<[], string>(
      `SELECT 'DROP ' || type || ' ' || name FROM sqlite_schema WHERE type = 'trigger' OR (type = 'index' AND sql IS NOT NULL)`,
    )
    .pluck()
    .all();
  for (const drop of guards) raw.exec(drop);
  // A plain table takes any bytes, as a file does that is edited by hand.
  raw.exec('CREATE TABLE bare (seq INTEGER PRIMARY KEY, prev BLOB, body TEXT, hash BLOB)');
  raw.exec('INSERT INTO bare SELECT seq, prev, body, hash FROM journal');
  raw.exec('DROP TABLE journal; ALTER TABLE bare RENAME TO journal');
  return raw;
}

function tampered<T>(work: (raw: Database.Database) => T): T {
  const raw = copyOfRecord();
  try {
    return work(raw);
  } finally {
    raw.close();
  }
}

/** Tries a change, looks, and takes it back. */
function afterChange<T>(raw: Database.Database, change: () => void, look: () => T): T {
  raw.exec('SAVEPOINT attempt');
  try {
    change();
    return look();
  } finally {
    raw.exec('ROLLBACK TO attempt');
    raw.exec('RELEASE attempt');
  }
}

describe('every change of the record is told in its transaction', () => {
  test('a re-key from its first sight to the accepted send, in order, with its fingerprint', async () => {
    await record.openRun([1]);
    const device = await record.device(1);
    await device.accepted('a', { left: true });
    const told = events().filter(event => event.device === deviceIdOf(1));
    expect(told.map(({ event }) => event)).toEqual([
      'device-seen',
      'backup-taken',
      'key-made',
      'write-begun',
      'written',
      'verified',
      'sent',
      'accepted',
      'left',
    ]);
    const about = ['key-made', 'verified', 'sent', 'accepted'];
    const [fingerprint] = record.list('SELECT fingerprint FROM keys');
    for (const event of told) if (about.includes(event.event)) expect(event['fingerprint']).toBe(fingerprint);
  });

  test('an older key that is superseded, a failed verification, a quarantine and a release have events of their own', async () => {
    const device = await record.device(1);
    await device.leftToOutbox('a');
    await device.leftToOutbox('b');
    expect(names()).toContain('superseded');
    const { runId } = await record.openRun([2], { manifest: '/other.csv' });
    const { attemptId } = await record.store.call('beginAttempt', {
      runId,
      deviceId: deviceIdOf(2),
      path: '1-1.1',
      platform: 'photon',
      bootloader: '0x0250',
      at: record.at,
    });
    await record.settle(runId, 2, 'fail', {
      attemptId,
      code: 'VERIFY_MISMATCH',
      steps: [{ name: 'verify', state: 'failed', startedAt: 1, ms: 1 }],
    });
    expect(names()).toContain('verification-failed');
    await record.finish(runId);
    await record.openRun([2], { manifest: '/third.csv', quarantineAfter: 1 });
    expect(events().find(({ event }) => event === 'quarantined')).toMatchObject({ device: deviceIdOf(2) });
    await record.store.call('releaseDevice', { deviceId: deviceIdOf(2), why: 'new cable', at: record.at });
    expect(events().at(-1)).toMatchObject({ event: 'released', device: deviceIdOf(2), why: 'new cable' });
  });

  test('what changes nothing is not told, and what fails is not told either', async () => {
    await aHistory();
    const before = names();
    await record.store.call('journalHead', undefined);
    await record.store.call('releaseDevice', { deviceId: deviceIdOf(99), why: null, at: 1 }).catch(() => undefined);
    expect(names()).toEqual(before);
  });

  test('a manifest of many rows is told in several events, and the tables still follow from them', async () => {
    await record.openRun(Array.from({ length: 450 }, (_, n) => n + 1));
    expect(names().filter(name => name === 'continued').length).toBeGreaterThan(0);
    expect(await record.store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
  });

  test('a change of the settings names them, and no change tells nothing', async () => {
    await record.store.call('noteConfiguration', { cloud: { url: 'https://a' }, quarantineAfter: 3 });
    await record.store.call('noteConfiguration', { cloud: { url: 'https://a' }, quarantineAfter: 5 });
    const before = names().length;
    await record.store.call('noteConfiguration', { cloud: { url: 'https://a' }, quarantineAfter: 5 });
    expect(names().length).toBe(before);
    expect(events().at(-1)).toMatchObject({ event: 'configuration-changed', settings: ['quarantineAfter'] });
  });

  test('a text that SQL made out of JSON is told as text', () => {
    const db = openDatabase({ path: record.path, create: false, migrationsDir: MIGRATIONS });
    db.raw.exec(`UPDATE station SET configuration = json_set('{}', '$.note', 'x')`);
    const [change] = db.journal.takeChanges();
    expect(change!.now['configuration']).toBe('{"note":"x"}');
    db.raw.close();
  });

  test('a time of day that goes back is told', async () => {
    await aHistory();
    const late = JSON.stringify({ ...events().at(-1)!, at: '2999-01-01T00:00:00.000Z' });
    const raw = new Database(record.path);
    raw.exec('DROP TRIGGER journal_never_changes');
    raw.prepare('UPDATE journal SET body = ? WHERE seq = (SELECT max(seq) FROM journal)').run(late);
    raw.close();
    await record.store.call('noteExport', { what: 'journal' });
    const [jump] = events().slice(-2);
    expect(jump).toMatchObject({ event: 'clock-jump' });
    expect(jump!['byMs']).toBeLessThan(-1e12);
  });

  test('a time of day that goes forward is told, and again where the transaction was taken back', async () => {
    await aHistory();
    const db = openDatabase({ path: record.path, create: false, migrationsDir: MIGRATIONS });
    const tell = (end: 'COMMIT' | 'ROLLBACK'): void => {
      db.run('BEGIN IMMEDIATE');
      db.journal.hold();
      perform(db, 'noteExport', { what: 'journal' });
      db.run(end);
      if (end === 'COMMIT') db.journal.letGo();
      else db.journal.takeBack();
    };
    tell('COMMIT');
    const now = Date.now();
    using clock = vi.spyOn(Date, 'now');
    clock.mockImplementation(() => now + 60_000);
    tell('ROLLBACK');
    tell('COMMIT');
    tell('COMMIT');
    db.raw.close();
    const [jump, ...others] = events().slice(-3);
    expect(jump).toMatchObject({ event: 'clock-jump' });
    expect(Math.abs(Number(jump!['byMs']) - 60_000)).toBeLessThan(10_000);
    expect(others.map(({ event }) => event)).not.toContain('clock-jump');
  });

  test('the triggers refuse to change or remove an event', async () => {
    await aHistory();
    const raw = new Database(record.path);
    expect(() => raw.exec(`UPDATE journal SET body = '{}' WHERE seq = 1`)).toThrow('the journal never changes');
    expect(() => raw.exec('DELETE FROM journal WHERE seq = 1')).toThrow('the journal never goes');
    raw.close();
  });
});

describe('the chain', () => {
  beforeEach(aHistory);

  test('holds, whether it is read in one thread or in several', async () => {
    await using thread = await RecordBench.openInThread();
    await thread.openRun(Array.from({ length: 30 }, (_, n) => n + 1));
    const { seq, hash } = await thread.store.call('journalHead', undefined);
    const { store } = thread;
    expect(await proveChain(store, seq)).toEqual({ events: seq, head: hash, problem: null });
    expect(await proveChain(store, seq + 1)).toMatchObject({ problem: { seq: seq + 1 } });
  });

  test('shows a flipped bit in any byte of any event, and names that event or the one after it', () => {
    tampered(raw => {
      const stored = raw
        .prepare<[], { seq: number; prev: Buffer; body: Buffer; hash: Buffer }>(
          'SELECT seq, prev, CAST(body AS BLOB) AS body, hash FROM journal',
        )
        .all();
      const update = {
        prev: raw.prepare('UPDATE journal SET prev = ? WHERE seq = ?'),
        body: raw.prepare('UPDATE journal SET body = CAST(? AS TEXT) WHERE seq = ?'),
        hash: raw.prepare('UPDATE journal SET hash = ? WHERE seq = ?'),
      };
      let tried = 0;
      for (const event of stored) {
        for (const column of ['prev', 'body', 'hash'] as const) {
          const bytes = Buffer.from(event[column]);
          for (let at = 0; at < bytes.length; at += 1) {
            bytes[at]! ^= 1 << (at % 8);
            update[column].run(bytes, event.seq);
            const wrong = firstWrong(raw);
            if (wrong !== event.seq) throw new Error(`byte ${at} of ${column} of event ${event.seq}: ${wrong}`);
            bytes[at]! ^= 1 << (at % 8);
            tried += 1;
          }
          update[column].run(bytes, event.seq);
        }
      }
      expect(firstWrong(raw)).toBeUndefined();
      expect(tried).toBeGreaterThan(5000);
    });
  });

  test('shows each event that was removed, doubled or exchanged with its neighbour', () => {
    tampered(raw => {
      const last = names().length;
      for (let seq = 1; seq < last; seq += 1) {
        const removed = afterChange(
          raw,
          () => raw.exec(`DELETE FROM journal WHERE seq = ${seq}`),
          () => firstWrong(raw),
        );
        expect(removed).toBe(seq);
        const closed = afterChange(
          raw,
          () => {
            raw.exec(`DELETE FROM journal WHERE seq = ${seq}`);
            raw.exec(`UPDATE journal SET seq = -seq WHERE seq > ${seq}`);
            raw.exec('UPDATE journal SET seq = -seq - 1 WHERE seq < 0');
          },
          () => firstWrong(raw),
        );
        expect(closed).toBe(seq);
        const exchanged = afterChange(
          raw,
          () => {
            raw.exec(`UPDATE journal SET seq = -1 WHERE seq = ${seq}`);
            raw.exec(`UPDATE journal SET seq = ${seq} WHERE seq = ${seq + 1}`);
            raw.exec(`UPDATE journal SET seq = ${seq + 1} WHERE seq = -1`);
          },
          () => firstWrong(raw),
        );
        expect(exchanged).toBe(seq);
        const doubled = afterChange(
          raw,
          () => {
            raw.exec(`UPDATE journal SET seq = -seq WHERE seq > ${seq}`);
            raw.exec('UPDATE journal SET seq = -seq + 1 WHERE seq < 0');
            raw.exec(
              `INSERT INTO journal (seq, prev, body, hash)
                 SELECT ${seq + 1}, prev, body, hash FROM journal WHERE seq = ${seq}`,
            );
          },
          () => firstWrong(raw),
        );
        expect(doubled).toBe(seq + 1);
      }
    });
  });
});

describe('the tables follow from the journal', () => {
  beforeEach(aHistory);

  test('row by row and column by column', async () => {
    expect(await record.store.call('compareWithJournal', undefined)).toEqual({ events: names().length, problems: [] });
  });

  test('a changed cell is found in every column of every table, and named', () => {
    tampered(raw => {
      let tried = 0;
      for (const { name, columns, key } of trackedTables(raw)) {
        const rows = raw.prepare<[], Record<string, string | number | null>>(`SELECT * FROM ${name}`).all();
        for (const row of rows) {
          const where = key.map(column => `${column} = :${column}`).join(' AND ');
          for (const column of columns.filter(one => !key.includes(one))) {
            const value = row[column];
            const other = typeof value === 'number' ? value + 1000 : value === null ? null : `${String(value)}x`;
            if (other === null) continue;
            const problems = tampered(copy => {
              copy.prepare(`UPDATE ${name} SET ${column} = :other WHERE ${where}`).run({ ...keyOf(row, key), other });
              return replayJournal(copy).problems;
            });
            expect(problems.filter(words => !words.includes('another station'))).toEqual([
              `${name} ${key.map(k => String(row[k])).join(' ')} is not what the journal says: ${column}`,
            ]);
            tried += 1;
          }
        }
      }
      expect(tried).toBeGreaterThan(80);
    });
  });

  test('an event of another station is found', () => {
    const problems = tampered(raw => {
      raw.exec(`UPDATE journal SET body = json_set(body, '$.station', 'theirs') WHERE seq = 2`);
      return replayJournal(raw).problems;
    });
    expect(problems).toEqual(['event 2 is of another station']);
  });

  test('a row that is gone, and one that came from nowhere, are found', () => {
    const gone = tampered(raw => {
      raw.exec('DELETE FROM backups WHERE id = 1');
      return replayJournal(raw).problems;
    });
    expect(gone).toEqual(['backups 1 is in the journal, and not there']);
    const added = tampered(raw => {
      raw.exec(
        `INSERT INTO key_marks (fingerprint, state, why, marked_at) VALUES ('${'a'.repeat(64)}', 'destroyed', 'x', 1)`,
      );
      return replayJournal(raw).problems;
    });
    expect(added).toEqual(['key_marks 1 is there, and the journal does not know it']);
  });
});

const keyOf = (row: Record<string, unknown>, key: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(key.map(column => [column, row[column]]));
