import { afterEach, expect, test, vi } from 'vitest';
import { openDatabase } from '#src/store/database.ts';
import type { Db } from '#src/store/db.ts';
import type { OperationInput, OperationName } from '#src/store/operations.ts';
import { perform } from '#src/store/perform.ts';
import { makeBigRecord, newKeyOf, oldKeyOf } from '../support/big-record.ts';
import { deviceIdOf } from '../support/record-bench.ts';
import { tempFolder } from '../support/temp-folder.ts';

const MIGRATIONS = new URL('../../migrations', import.meta.url).pathname;

/** Tables that grow with the fleet, or with the years. */
const GROWING =
  /\bSCAN (?:TABLE )?(journal|keys|key_changes|key_marks|mark|change|backups|attempts|steps|writes|sends|rows|devices|releases)\b/;

afterEach(() => {
  vi.restoreAllMocks();
});

/** How SQLite goes about every query that an operation makes. */
function plansOf<N extends OperationName>(db: Db, name: N, input: OperationInput<N>): string[] {
  const asked: [string, unknown[]][] = [];
  const spies = [vi.spyOn(db, 'all'), vi.spyOn(db, 'get')];
  perform(db, name, input);
  for (const { mock } of spies) for (const [sql, ...values] of mock.calls) asked.push([sql, values]);
  vi.restoreAllMocks();
  expect(asked.length).toBeGreaterThan(0);
  return asked.flatMap(([sql, values]) =>
    db.raw
      .prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .all(...values)
      .map(row => (row as { detail: string }).detail),
  );
}

test('history, keys find, keys at and keys mark read no table that grows from end to end', () => {
  using folder = tempFolder();
  const path = folder.file('fleet.db');
  makeBigRecord(path, 20);
  const db = openDatabase({ path, create: false, migrationsDir: MIGRATIONS });
  try {
    const deviceId = deviceIdOf(7);
    const plans = [
      ...plansOf(db, 'deviceHistory', deviceId),
      ...plansOf(db, 'findKeys', { prefix: newKeyOf(7).slice(0, 8), limit: 300 }),
      ...plansOf(db, 'findKeys', { prefix: oldKeyOf(7), limit: 300 }),
      ...plansOf(db, 'keyAt', { deviceId, time: Date.now() }),
      ...plansOf(db, 'markKey', { prefix: newKeyOf(7), state: 'compromised', why: 'lost', at: Date.now() }),
    ];
    expect(plans.filter(plan => GROWING.test(plan))).toEqual([]);
    expect(plans.some(plan => plan.includes('journal_by_device'))).toBe(true);
    expect(plans.some(plan => plan.includes('backups_by_fingerprint'))).toBe(true);
  } finally {
    db.raw.close();
  }
});

test('a device with more events than are read says how many older ones there are', () => {
  using folder = tempFolder();
  const path = folder.file('fleet.db');
  makeBigRecord(path, 1);
  const db = openDatabase({ path, create: false, migrationsDir: MIGRATIONS });
  try {
    const deviceId = deviceIdOf(1);
    const seen = { runId: 1, deviceId, path: '1-1.1' as never, platform: 'photon', bootloader: 'new', at: 1 };
    for (let n = 0; n < 600; n += 1) perform(db, 'beginAttempt', seen);
    const { events, olderEvents } = perform(db, 'deviceHistory', deviceId);
    expect([events.length, olderEvents]).toEqual([500, 110]);
    expect(events.map(({ seq }) => seq)).toEqual(events.map(({ seq }) => seq).toSorted((a, b) => a - b));
    expect(events.at(-1)?.seq).toBe(db.journal.head().seq);
  } finally {
    db.raw.close();
  }
});
