import { readFileSync, writeFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Store } from '#src/store/store.ts';
import { faultOf, RecordBench } from '../support/record-bench.ts';
import type { RecordedDevice } from '../support/recorded-device.ts';
import { modeOf } from '../support/temp-folder.ts';

let record: RecordBench;
let device: RecordedDevice;
beforeEach(async () => {
  record = RecordBench.open();
  device = await record.device();
});
afterEach(() => record[Symbol.asyncDispose]());

describe('a copy of the record', () => {
  test('is whole, 0600 and a record by itself, with what is in the WAL', async () => {
    await device.accepted('a', { left: true });
    const file = record.folder.file('copy.db');
    await record.store.call('backupTo', file);
    expect(modeOf(file)).toBe('600');
    await using copy = await Store.open({ path: file, create: false });
    expect(await copy.call('deviceHistory', device.id)).toEqual(await record.store.call('deviceHistory', device.id));
    expect(await copy.call('checkRecord', undefined)).toEqual([]);
    expect(await copy.call('stationId', undefined)).toEqual(await record.store.call('stationId', undefined));
  });

  test('is not made over a file that is there, nor where there is no folder', async () => {
    const file = record.folder.file('copy.db');
    writeFileSync(file, 'precious');
    const fault = await faultOf(record.store.call('backupTo', file));
    expect(fault).toMatchObject({ code: 'DB_UNREADABLE', message: `the copy ${file} can't be made (EEXIST)` });
    expect(readFileSync(file, 'utf8')).toBe('precious');
    const nowhere = record.folder.file('no/copy.db');
    expect((await faultOf(record.store.call('backupTo', nowhere))).message).toContain('(ENOENT)');
  });
});

describe('a check of the record', () => {
  const check = () => record.store.call('checkRecord', undefined);

  /** Changes the tables behind the back of the schema. */
  function tamper(sql: string): void {
    const db = new Database(record.path);
    db.unsafeMode();
    db.pragma('foreign_keys = OFF');
    db.pragma('ignore_check_constraints = ON');
    const guards = db.prepare<[], { name: string; sql: string }>(
      `SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'`,
    );
    const before = guards.all();
    for (const { name } of before) db.exec(`DROP TRIGGER ${name}`);
    db.exec(sql);
    for (const guard of before) db.exec(guard.sql);
    db.close();
  }

  test('finds nothing in one that is whole', async () => {
    await device.accepted('a', { left: true });
    await device.refused('b', 'a');
    await (await record.device(2)).prepared('c');
    expect(await check()).toEqual([]);
  });

  test.each([
    ['UPDATE keys SET verified_at = NULL', 'an active key without a verification: '],
    [`UPDATE keys SET state = 'deactivated'`, 'a pending send of a key that is not on its device: '],
    [`UPDATE keys SET sealed_private = x''`, 'a made key without its sealed private half: '],
    [`DELETE FROM sends; DELETE FROM sqlite_sequence WHERE name = 'sends'`, 'a key without a send: '],
    ['UPDATE backups SET bytes = 0', 'an empty backup: '],
    [
      `INSERT INTO rows (run_id, device_id, line, outcome) SELECT run_id, device_id, 2, 'pass' FROM attempts;
       DELETE FROM writes; DELETE FROM backups; DELETE FROM attempts;
       DELETE FROM sqlite_sequence WHERE name IN ('writes', 'backups', 'attempts')`,
      'a row that passed without an attempt: ',
    ],
    [`UPDATE keys SET generation = 7`, 'a gap in the generations: '],
    [`UPDATE sends SET state = 'accepted'`, 'an accepted send without its time: '],
    [`UPDATE attempts SET outcome = 'pass'`, 'an attempt that ended without an outcome: '],
  ])('finds what can not be: %s', async (sql, problem) => {
    await device.leftToOutbox('a');
    tamper(sql);
    expect(await check()).toContain(problem + device.id);
  });

  test('finds what was taken out, by the numbers that are missing', async () => {
    await device.accepted('a', { left: true });
    await device.leftToOutbox('b');
    tamper('DELETE FROM writes WHERE id = 1');
    expect(await check()).toEqual(['writes: 2 were recorded, 1 are there']);
  });

  test('finds that a guard of the schema is gone', async () => {
    await device.leftToOutbox('a');
    const db = new Database(record.path);
    db.exec('DROP TRIGGER keys_never_go; DROP INDEX sends_one_pending');
    db.close();
    expect((await check()).sort()).toEqual([
      "the schema's guard keys_never_go is not as it should be",
      "the schema's guard sends_one_pending is not as it should be",
    ]);
  });

  test('finds what points at nothing', async () => {
    await device.leftToOutbox('a');
    tamper('UPDATE writes SET backup_id = 99');
    expect(await check()).toEqual(['writes 1 points at nothing in backups']);
  });

  test('finds a damaged index', async () => {
    await device.leftToOutbox('a');
    tamper(`PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage =
      (SELECT rootpage FROM sqlite_schema WHERE name = 'writes_by_key') WHERE name = 'keys_by_fingerprint';`);
    await record.store.close();
    await using store = await Store.open({ path: record.path, create: false });
    expect((await store.call('checkRecord', undefined)).join()).toContain('SQLite: ');
  });
});

describe('the identity that a record is sealed to', () => {
  test('is put down once, and a second one is refused', async () => {
    const { store } = record;
    expect((await store.call('stationId', undefined)).recipient).toBeNull();
    await store.call('bindRecipient', 'age1mine');
    await store.call('bindRecipient', 'age1mine');
    expect(await faultOf(store.call('bindRecipient', 'age1other'))).toMatchObject({
      code: 'VAULT_IDENTITY',
      facts: { expected: 'age1mine', found: 'age1other' },
    });
    const { recipient, stationId } = await store.call('stationId', undefined);
    expect(recipient).toBe('age1mine');
    expect(stationId).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('what is told of the record', () => {
  test('is the history of a device, oldest first', async () => {
    const other = await record.device(2);
    await other.leftToOutbox('x');
    await device.accepted('a', { left: true });
    const { sendId } = await device.leftToOutbox('b');
    await device.lease(sendId);
    await device.refuse(sendId);
    const history = await record.store.call('deviceHistory', device.id);
    expect(
      history.keys.map(({ generation, fingerprint, state, cloud }) => [generation, fingerprint, state, cloud.state]),
    ).toEqual([
      [1, 'a', 'deactivated', 'accepted'],
      [2, 'b', 'active', 'refused'],
    ]);
    expect(history.keys[1]?.cloud).toEqual({ state: 'refused', attempts: 1, lastError: 'not yours', acceptedAt: null });
    expect(history.backups.map(({ bytes, classification }) => [bytes, classification])).toEqual([
      [8391, 'blank'],
      [8391, 'blank'],
    ]);
    expect(history.attempts).toHaveLength(2);
  });

  test('is nothing of a device that was never seen, nor of a run that never was', async () => {
    expect((await faultOf(record.store.call('deviceHistory', (await record.device(9)).id))).code).toBe(
      'DEVICE_NOT_FOUND',
    );
    expect((await faultOf(record.store.call('runReport', 99))).message).toBe('there is no run 99');
  });

  test('is the outbox, with the time of the next attempt of those that wait', async () => {
    const { sendId } = await device.leftToOutbox('a');
    await (await record.device(2)).accepted('b');
    await device.lease(sendId);
    await record.store.call('recordUnknown', {
      owner: 'run:1',
      mayLandLate: false,
      sendId,
      status: 503,
      error: 'busy',
      nextAt: 4711,
      at: record.at,
    });
    const all = await record.store.call('outboxReport', null);
    expect(all.map(({ fingerprint, state, attempts, nextAt }) => [fingerprint, state, attempts, nextAt])).toEqual([
      ['a', 'pending', 1, 4711],
      ['b', 'accepted', 1, null],
    ]);
    expect(await record.store.call('outboxReport', 'pending')).toEqual([all[0]]);
    expect(await record.store.call('pendingSends', null)).toBe(1);
    expect(await record.store.call('pendingSends', (await record.device(2)).id)).toBe(0);
  });
});

test('a record without a run says so', async () => {
  await using empty = RecordBench.open();
  expect((await faultOf(empty.store.call('runReport', null))).message).toBe('no run is on record yet');
});
