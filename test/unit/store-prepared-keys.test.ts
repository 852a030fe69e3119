import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { sha256Hex } from '#src/core/bytes.ts';
import { RecordBench } from '../support/record-bench.ts';

const pair = (n: number) => ({ fingerprint: sha256Hex(Buffer.from(`pair ${n}`)), sealed: Buffer.from(`sealed ${n}`) });

async function bench(count: number): Promise<RecordBench> {
  const record = RecordBench.open();
  const pairs = Array.from({ length: count }, (_, n) => pair(n));
  if (count > 0) await record.store.call('addPreparedKeys', { pairs, at: 1 });
  return record;
}

describe('prepared key pairs', () => {
  test('are taken once each, oldest first, and then there is none', async () => {
    await using record = await bench(3);
    const taken = await Promise.all(Array.from({ length: 4 }, () => record.store.call('takePreparedKey', { at: 2 })));
    expect(taken.map(one => one?.fingerprint)).toEqual([...[0, 1, 2].map(n => pair(n).fingerprint), undefined]);
    expect(Buffer.from(taken[1]!.sealed).toString()).toBe('sealed 1');
    expect(await record.store.call('preparedKeys', undefined)).toBe(0);
  });

  test('leave nothing of their private half behind when they are taken', async () => {
    await using record = await bench(2);
    await record.store.call('takePreparedKey', { at: 2 });
    expect(record.query('SELECT sealed IS NULL AS gone, taken_at FROM prepared_keys ORDER BY id')).toEqual([
      { gone: 1, taken_at: 2 },
      { gone: 0, taken_at: null },
    ]);
  });

  test('can not be made taken or there again by hand, and do not go', async () => {
    await using record = await bench(2);
    await record.store.call('takePreparedKey', { at: 2 });
    const db = new Database(record.path);
    try {
      for (const sql of [
        `UPDATE prepared_keys SET taken_at = NULL, sealed = x'00' WHERE id = 1`,
        `UPDATE prepared_keys SET taken_at = 9 WHERE id = 1`,
        `UPDATE prepared_keys SET sealed = x'00' WHERE id = 2`,
        `UPDATE prepared_keys SET fingerprint = '${'0'.repeat(64)}' WHERE id = 2`,
      ]) {
        expect(() => db.exec(sql), sql).toThrow(/prepared key/);
      }
      expect(() => db.exec('DELETE FROM prepared_keys')).toThrow(/never goes/);
    } finally {
      db.close();
    }
  });

  test('are in no copy of the record, whose journal says so and can be proven', async () => {
    await using record = await bench(3);
    const copy = `${record.path}.copy`;
    await record.store.call('backupTo', copy);
    expect(await record.store.call('preparedKeys', undefined)).toBe(3);
    const db = new Database(copy, { readonly: true });
    try {
      expect(db.prepare('SELECT count(*) AS n FROM prepared_keys WHERE sealed IS NOT NULL').get()).toEqual({ n: 0 });
      const last = db.prepare<[], { body: string }>('SELECT body FROM journal ORDER BY seq DESC LIMIT 1').get();
      expect(JSON.parse(last?.body ?? '{}')).toMatchObject({ event: 'prepared-keys-discarded' });
    } finally {
      db.close();
    }
  });

  test('go when the vault is rewrapped: they are sealed to others', async () => {
    await using record = await bench(2);
    await record.store.call('bindRecipient', 'age1mine');
    await record.store.call('beginRewrap', { policy: 'escrow', recipients: ['age1one'], at: 3 });
    expect(await record.store.call('preparedKeys', undefined)).toBe(0);
  });

  test('are found by a check where their sealed half was changed, or a device has one that was never taken', async () => {
    await using record = await bench(2);
    const db = new Database(record.path);
    db.exec(`DROP TRIGGER prepared_keys_taken_once; UPDATE prepared_keys SET sealed = x'00' WHERE id = 2`);
    db.close();
    const problems = await record.store.call('checkRecord', undefined);
    expect(problems).toContain(`a prepared key pair other than that of its hash: ${pair(1).fingerprint}`);
  });
});
