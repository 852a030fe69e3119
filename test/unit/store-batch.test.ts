import { describe, expect, test } from 'vitest';
import { Store } from '#src/store/store.ts';
import { Child } from '../support/children.ts';
import { deviceIdOf, faultOf, RecordBench } from '../support/record-bench.ts';
import { tempFolder } from '../support/temp-folder.ts';

/** The journal is one chain from its first event on, and tells what the tables hold. */
async function expectWhole({ store }: RecordBench): Promise<void> {
  const { seq, hash } = await store.call('journalHead', undefined);
  const chain = await store.call('verifyPart', { after: 0, until: seq, expected: '00'.repeat(32) });
  expect(chain).toEqual({ events: seq, head: hash, problem: null });
  expect(await store.call('compareWithJournal', undefined)).toMatchObject({ problems: [] });
}

describe('operations that are committed together', () => {
  test('do not undo each other: one that fails fails alone', async () => {
    await using record = await RecordBench.openInThread();
    const device = await record.device();
    const { at } = record;
    const attempt = (runId: number, n: number) =>
      record.store.call('beginAttempt', {
        runId,
        deviceId: deviceIdOf(n),
        path: '1-1',
        platform: 'photon',
        bootloader: 'new',
        at,
      });
    const asked = [1, 2, 3, 4, 5, 6].map(n => attempt(n % 2 === 0 ? 99 : device.runId, n));
    const ended = await Promise.allSettled(asked);
    expect(ended.map(({ status }) => status === 'fulfilled')).toEqual([true, false, true, false, true, false]);
    expect(record.list('SELECT device_id FROM attempts ORDER BY id')).toEqual([1, 3, 5].map(deviceIdOf));
    // The failed ones had put down their devices before they failed: that is undone with them.
    expect(record.list('SELECT device_id FROM devices ORDER BY 1')).toEqual([1, 3, 5].map(deviceIdOf));
    await expectWhole(record);
  });

  test('are carried out in the order in which they were asked', async () => {
    await using record = await RecordBench.openInThread();
    const write = await (await record.device()).prepared();
    const { store, at } = record;
    await Promise.all([
      store.call('markWriting', { writeId: write.writeId, at }),
      store.call('markVerified', { writeId: write.writeId, at }),
      store.call('leaseSend', { sendId: write.sendId, owner: 'x', at, untilAt: at + 1, ignoreDue: true }),
      store.call('recordAccepted', { owner: 'run:1', sendId: write.sendId, status: 200, at }),
      store.call('markLeft', { writeId: write.writeId, at }),
    ]);
    expect(record.list('SELECT phase FROM writes')).toEqual(['left']);
  });

  test('among which a copy is made, which is in no transaction, are all carried out', async () => {
    await using record = await RecordBench.openInThread();
    const device = await record.device();
    const copy = record.folder.file('copy.db');
    const [first, , second] = await Promise.all([
      device.attempt(),
      record.store.call('backupTo', copy),
      device.attempt(),
    ]);
    expect([first, second]).toEqual([1, 2]);
    await using copied = await Store.open({ path: copy, create: false });
    expect((await copied.call('deviceHistory', device.id)).attempts).toHaveLength(1);
  });

  test('that the program got wrong end as a bug, and the store goes on', async () => {
    await using record = await RecordBench.openInThread();
    const fault = await faultOf(record.store.call('markVerified', { writeId: 99, at: 1 }));
    expect(`${fault.code}: ${fault.message}`).toBe('BUG: Error: there is no write 99');
    expect(await record.store.call('pendingSends', null)).toBe(0);
  });
});

describe('two processes with one record', () => {
  test('tell one journal between them, whose ever transaction comes between', async () => {
    await using record = await RecordBench.openInThread();
    await using second = await Store.open({ path: record.path, create: false });
    const { runId } = await record.device();
    for (let n = 10; n < 40; n += 3) {
      const begun = [record.store, second, record.store].map((store, i) =>
        store.call('beginAttempt', {
          runId,
          deviceId: deviceIdOf(n + i),
          path: '1-1',
          platform: 'photon',
          bootloader: 'new',
          at: n,
        }),
      );
      await Promise.all(begun);
    }
    expect(record.list(`SELECT count(*) FROM journal WHERE body LIKE '%device-seen%'`)).toEqual([30]);
    await expectWhole(record);
  });

  test('lease a send to one of them, whoever asks first', async () => {
    await using record = await RecordBench.openInThread();
    await using second = await Store.open({ path: record.path, create: false });
    const at = 1_000_000;
    for (const n of [1, 2, 3, 4, 5]) {
      const { sendId } = await (await record.device(n)).leftToOutbox();
      const leased = await Promise.all(
        [record.store, second].map((store, i) =>
          store.call('leaseSend', { sendId, owner: `replay:${i}`, at, untilAt: at + 1, ignoreDue: true }),
        ),
      );
      expect(leased.filter(lease => lease !== null)).toHaveLength(1);
    }
  });
});

/** Promises one key after the other, and says each number once the promise has been kept. */
const PROMISING = `
  const { Store } = await import(dist + 'store/store.js');
  const store = await Store.open({ path: argv[0], create: true });
  const { runId } = await store.call('openRun', { job: 'j', manifest: 'm', manifestSha256: '', rows: [], again: false,
    retryFailed: false, at: 1 });
  for (let n = 1; ; n += 8) {
    await Promise.all(Array.from({ length: 8 }, async (_, i) => {
      const deviceId = (n + i).toString(16).padStart(24, '0');
      const { attemptId } = await store.call('beginAttempt', { runId, deviceId, path: '1-1', platform: 'photon',
        bootloader: 'new', at: 1 });
      const { backupId } = await store.call('saveBackup', { deviceId, attemptId, takenAt: 1, sha256: 's', bytes: 8391,
        classification: 'blank', fingerprint: null, sealed: new Uint8Array(8391).fill(7) });
      await store.call('prepareWrite', { deviceId, attemptId, backupId, alternate: 1, offset: 34, length: 1600,
        oldSha256: 'o', newSha256: 'n', at: 1, key: { generation: 1, fingerprint: 'f', publicPem: 'p', algorithm: 'rsa',
        bits: 1024, sealedPrivate: new Uint8Array(700).fill(8), productId: null } });
      process.stdout.write(deviceId + '\\n');
    }));
  }`;

describe('what was promised', () => {
  test('is on disk, all of it, after the process was killed in the midst of its work', async () => {
    using folder = tempFolder();
    const path = folder.file('fleet.db');
    await using child = new Child(PROMISING, [path]);
    await child.printed(60);
    await child.kill();
    const promised = child.lines;
    expect(promised.length).toBeGreaterThanOrEqual(60);
    await using store = await Store.open({ path, create: false });
    for (const line of promised) {
      const write = await store.call('openWrite', deviceIdOf(Number.parseInt(line, 16)));
      expect(write).toMatchObject({ phase: 'prepared', key: { fingerprint: 'f' } });
      expect(write?.backup.sealed.length).toBe(8391);
    }
    expect(await store.call('checkRecord', undefined)).toEqual([]);
  });
});
