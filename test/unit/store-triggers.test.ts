import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RecordBench } from '../support/record-bench.ts';

describe('what the schema itself refuses, whoever asks', () => {
  let record: RecordBench;
  let db: Database.Database;
  beforeAll(async () => {
    record = RecordBench.open();
    await (await record.device()).leftToOutbox('k');
    db = new Database(record.path);
    db.pragma('foreign_keys = ON');
  });
  afterAll(async () => {
    db.close();
    await record[Symbol.asyncDispose]();
  });

  test.each([
    [`UPDATE backups SET sealed = x'00'`, 'a backup never changes'],
    [`UPDATE backups SET fingerprint = 'x'`, 'a backup never changes'],
    ['DELETE FROM backups', 'a backup never goes'],
    ['DELETE FROM keys', 'a key never goes'],
    [`UPDATE keys SET device_id = '${'1'.repeat(24)}'`, 'a key never changes'],
    ['UPDATE keys SET generation = 2', 'a key never changes'],
    [`UPDATE keys SET fingerprint = 'x'`, 'a key never changes'],
    [`UPDATE keys SET public_pem = 'x'`, 'a key never changes'],
    ['DELETE FROM attempts', 'an attempt never goes'],
    ['DELETE FROM sends', 'a send never goes'],
    ['DELETE FROM writes', 'a write never goes'],
    ['UPDATE writes SET restored_backup_id = backup_id', 'a write never changes'],
    [
      `INSERT INTO backups (device_id, attempt_id, taken_at, sha256, bytes, classification, sealed)
         SELECT 'nobody', attempt_id, 1, '', 1, '', x'00' FROM backups`,
      'FOREIGN KEY',
    ],
    [`UPDATE backups SET sealed = x'00', sealed_sha256 = NULL`, 'a backup never changes'],
    [`UPDATE backups SET sealed = x'', sealed_sha256 = 'x'`, 'a backup never changes'],
    [`UPDATE writes SET phase = 'finished'`, 'CHECK constraint failed'],
    ['UPDATE writes SET length = 4097', 'a write never changes'],
    [`UPDATE writes SET new_sha256 = 'x'`, 'a write never changes'],
    [
      'INSERT INTO writes SELECT NULL, device_id, attempt_id, backup_id, key_id, 1, 0, 4097, old_sha256, new_sha256, phase, 0, 0, 0, NULL, NULL FROM writes',
      'CHECK constraint failed',
    ],
    [`UPDATE keys SET sealed_private = NULL`, 'a key never changes'],
    [`UPDATE sends SET product_id = '1'`, 'a send never changes'],
    [`UPDATE attempts SET started_at = 1`, 'an attempt never changes'],
    [`UPDATE sends SET state = 'sent'`, 'CHECK constraint failed'],
    [`UPDATE keys SET state = 'current'`, 'CHECK constraint failed'],
    [
      'INSERT INTO station (only_one, station_id, created_at) SELECT 2, station_id, 1 FROM station',
      'CHECK constraint failed',
    ],
    [`UPDATE sends SET next_at = 'soon'`, 'cannot store TEXT value in INTEGER column'],
  ])('%s', (sql, why) => {
    expect(() => db.exec(sql)).toThrow(why);
  });
});

test('of one device there is one open write, one active key, one pending send, and each generation once', async () => {
  await using record = RecordBench.open();
  await (await record.device()).leftToOutbox('k');
  const db = new Database(record.path);
  const copy = (table: string, changed: Record<string, unknown>): void => {
    const row = { ...(db.prepare(`SELECT * FROM ${table}`).get() as Record<string, unknown>), id: null, ...changed };
    const names = Object.keys(row);
    db.prepare(`INSERT INTO ${table} (${names.join()}) VALUES (${names.map(() => '?').join()})`).run(
      Object.values(row),
    );
  };
  copy('keys', { generation: 2, state: 'deactivated' });
  copy('sends', { key_id: 2, state: 'superseded' });
  expect(() => db.exec(`UPDATE keys SET state = 'active'`)).toThrow('UNIQUE constraint failed: keys.device_id');
  expect(() => db.exec(`UPDATE sends SET state = 'pending'`)).toThrow('UNIQUE constraint failed: sends.device_id');
  copy('writes', { phase: 'prepared' });
  expect(() => copy('writes', { phase: 'refused' })).toThrow('UNIQUE constraint failed: writes.device_id');
  const twice = 'UNIQUE constraint failed: keys.device_id, keys.generation';
  expect(() => copy('keys', { state: 'deactivated' })).toThrow(twice);
  db.close();
});
