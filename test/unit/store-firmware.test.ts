import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import type { ModuleRecord } from '#src/core/firmware-record.ts';
import { deviceIdOf, RecordBench } from '../support/record-bench.ts';

const deviceId = deviceIdOf(1);
const SHA = { one: 'a'.repeat(64), two: 'b'.repeat(64) };

function seen(slot: string, sha256: string | null, state: ModuleRecord['state'] = 'whole'): ModuleRecord {
  const isThere = state === 'whole';
  return { slot, state, version: isThere ? 207 : null, function: isThere ? 4 : null, platform: 'photon', sha256 };
}

const wanted = (sha256: string) => [{ slot: 'system-part1', version: 207, sha256 }];

async function bench(): Promise<RecordBench & { attemptId: number }> {
  const record = RecordBench.open();
  const { runId } = await record.openRun([1]);
  const { attemptId } = await record.store.call('beginAttempt', {
    runId,
    deviceId,
    path: '1-1.1',
    platform: 'photon',
    bootloader: 'new',
    at: record.at,
  });
  return Object.assign(record, { attemptId });
}

/** A flashing of one module that ends as through, after which `sha256` was found. */
async function flashed({ attemptId, store, at }: Awaited<ReturnType<typeof bench>>, sha256: string): Promise<void> {
  await store.call('beginFlash', { deviceId, attemptId, wanted: wanted(SHA.one), at });
  const modules = [seen('system-part1', sha256)];
  await store.call('endFlash', { flashId: 1, attemptId, endedAs: null, modules, at });
}

const EVENTS = `SELECT json_extract(body, '$.event') FROM journal WHERE device_id IS NOT NULL ORDER BY seq`;

describe('what was seen of the modules of a device', () => {
  test('goes on record once for each time that it is something else', async () => {
    await using record = await bench();
    const { attemptId } = record;
    const note = (...modules: ModuleRecord[]) =>
      record.store.call('noteModules', { deviceId, attemptId, modules, at: record.at });
    await note(seen('system-part1', SHA.one), seen('user-part', null, 'empty'));
    await note(seen('system-part1', SHA.one), seen('user-part', null, 'empty'));
    await note(seen('system-part1', SHA.two), seen('user-part', null, 'empty'));
    await note(seen('system-part1', SHA.one));
    const { modules } = await record.store.call('deviceHistory', deviceId);
    expect(modules.map(({ slot, sha256 }) => [slot, sha256])).toEqual([
      ['system-part1', SHA.one],
      ['user-part', null],
      ['system-part1', SHA.two],
      ['system-part1', SHA.one],
    ]);
    expect(record.list(EVENTS)).toEqual(['device-seen', 'modules-seen', 'modules-seen', 'modules-seen']);
  });
});

describe('a flashing', () => {
  test('is open until it is through, is taken up for the same modules, and given up for others', async () => {
    await using record = await bench();
    const { attemptId, store } = record;
    const begin = (sha256: string) =>
      store.call('beginFlash', { deviceId, attemptId, wanted: wanted(sha256), at: record.at });
    expect(await store.call('openFlash', deviceId)).toBeNull();
    expect(await begin(SHA.one)).toEqual({ flashId: 1 });
    expect(await begin(SHA.one)).toEqual({ flashId: 1 });
    expect(await begin(SHA.two)).toEqual({ flashId: 2 });
    expect(await store.call('openFlash', deviceId)).toEqual({ flashId: 2, wanted: wanted(SHA.two), endedAs: null });
    const modules = [seen('system-part1', SHA.two)];
    await store.call('endFlash', { flashId: 2, attemptId, endedAs: '1-1 7', modules, at: record.at });
    expect(await store.call('openFlash', deviceId)).toEqual({ flashId: 2, wanted: wanted(SHA.two), endedAs: '1-1 7' });
    const { flashings } = await store.call('deviceHistory', deviceId);
    expect(flashings.map(({ state, endedAt }) => [state, endedAt !== null])).toEqual([
      ['writing', true],
      ['whole', true],
    ]);
    await expect(
      store.call('endFlash', { flashId: 2, attemptId, endedAs: null, modules, at: record.at }),
    ).rejects.toThrow();
    expect(record.list(EVENTS)).toEqual(['device-seen', 'flash-begun', 'flash-begun', 'flashed']);
    expect(await store.call('checkRecord', undefined)).toEqual([]);
    expect(await store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
  });

  test('does not change by hand, and what was seen does not either', async () => {
    await using record = await bench();
    await flashed(record, SHA.one);
    const db = new Database(record.path);
    try {
      for (const sql of [
        `UPDATE flashings SET wanted = '{}'`,
        'UPDATE flashings SET ended_at = NULL',
        `UPDATE flashings SET state = 'writing'`,
        'DELETE FROM flashings',
        `UPDATE modules SET version = 1`,
        'DELETE FROM modules',
      ]) {
        expect(() => db.exec(sql), sql).toThrow(/never|once/);
      }
    } finally {
      db.close();
    }
  });

  test('that says it is through, and whose module was never seen, is found by the check', async () => {
    await using record = await bench();
    await flashed(record, SHA.two);
    expect(await record.store.call('checkRecord', undefined)).toEqual([
      `a flashing that is through, and a module of which was never seen whole: ${deviceId}`,
    ]);
  });
});
