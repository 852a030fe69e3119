import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { freshIdentity, readIdentity } from '#src/vault/identity-file.ts';
import { vaultOf, vaultWith } from '#src/vault/vault.ts';
import { workingFileOf, workingIdentities, type WorkingIdentities } from '#src/vault/working-identities.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import { RecordBench } from '../support/record-bench.ts';
import { modeOf } from '../support/temp-folder.ts';

function workingOf(record: RecordBench): WorkingIdentities {
  return workingIdentities(record.path, {
    note: working => record.store.call('noteWorkingIdentity', { ...working, at: 1 }),
    list: () => record.store.call('workingIdentities', undefined),
    noteDestroyed: recipient => record.store.call('noteWorkingIdentityDestroyed', { recipient, at: 2 }),
  });
}

const files = (record: RecordBench): string[] =>
  readdirSync(record.folder.path).filter(name => name.includes('working'));

describe('the working identity of a run', () => {
  test('is made once, 0600, beside the database and on record', async () => {
    await using record = RecordBench.open();
    const { runId } = await record.openRun([1]);
    const working = workingOf(record);
    const [one, two] = await Promise.all([working.of(runId), working.of(runId)]);
    expect(one).toEqual(two);
    const path = workingFileOf(record.path, runId);
    expect(modeOf(path)).toBe('600');
    expect(await readIdentity(path)).toEqual(one);
    expect(files(record)).toEqual([`fleet.working-${runId}`]);
    expect(await record.store.call('workingIdentities', undefined)).toEqual([
      { recipient: one.recipient, runId, madeAt: 1, inUse: false },
    ]);
    expect(await working.there()).toEqual([one]);
  });

  test('that an earlier process has left is taken up by the next one', async () => {
    await using record = RecordBench.open();
    const { runId } = await record.openRun([1]);
    const one = await workingOf(record).of(runId);
    expect(await workingOf(record).of(runId)).toEqual(one);
  });

  test('is kept as long as a write of the run is open, and then overwritten and taken away', async () => {
    await using record = RecordBench.open();
    const device = await record.device();
    const attempt = await record.store.call('workingIdentities', undefined);
    expect(attempt).toEqual([]);
    const working = workingOf(record);
    const write = await device.prepared();
    const runId = Number(record.list('SELECT max(run_id) FROM attempts')[0]);
    const { recipient } = await working.of(runId);
    expect(await working.tidy()).toEqual([]);
    expect(files(record)).toHaveLength(1);
    await record.store.call('markWriting', { writeId: write.writeId, at: record.at });
    await record.store.call('markVerified', { writeId: write.writeId, at: record.at });
    await record.store.call('markLeft', { writeId: write.writeId, at: record.at });
    expect(await working.tidy()).toEqual([]);
    expect(files(record)).toEqual([]);
    expect(await working.there()).toEqual([]);
    expect(record.query('SELECT recipient, destroyed_at FROM working_identities')).toEqual([
      { recipient, destroyed_at: 2 },
    ]);
  });

  test('is another one where the run goes on after it was destroyed', async () => {
    await using record = RecordBench.open();
    const { runId } = await record.openRun([1]);
    const working = workingOf(record);
    const one = await working.of(runId);
    await working.tidy();
    const two = await working.of(runId);
    expect(two.recipient).not.toBe(one.recipient);
    await working.tidy();
    expect(files(record)).toEqual([]);
  });

  test('that was half destroyed, or half made, by a process that died is taken away', async () => {
    await using record = RecordBench.open();
    const { runId } = await record.openRun([1]);
    const working = workingOf(record);
    await working.of(runId);
    writeFileSync(workingFileOf(record.path, runId), 'noise');
    writeFileSync(`${workingFileOf(record.path, 7)}.0123456789ab.new`, 'AGE-SECRET-KEY-1');
    expect(await working.there()).toEqual([]);
    expect(await working.tidy()).toEqual([]);
    expect(files(record)).toEqual([]);
  });

  test('of another database by the same name is neither used nor destroyed', async () => {
    await using record = RecordBench.open();
    const { runId } = await record.openRun([1]);
    const path = workingFileOf(record.path, runId);
    const foreign = `${freshIdentity().identity}\n`;
    writeFileSync(path, foreign);
    const working = workingOf(record);
    await expect(working.of(runId)).rejects.toMatchObject({
      code: 'VAULT_IDENTITY',
      message: `the file ${path} is there, and is not of this record`,
    });
    expect(await working.there()).toEqual([]);
    await working.tidy();
    expect(readFileSync(path, 'utf8')).toBe(foreign);
  });

  test('that can not be destroyed is told, and stays on record', async () => {
    await using record = RecordBench.open();
    const { runId } = await record.openRun([1]);
    await record.store.call('noteWorkingIdentity', { recipient: 'age1x', runId, at: 1 });
    const path = workingFileOf(record.path, runId);
    mkdirSync(path);
    expect(await workingOf(record).tidy()).toEqual([
      `the working identity ${path} can't be destroyed (EISDIR): remove it by hand`,
    ]);
    expect(existsSync(path)).toBe(true);
    expect(await record.store.call('workingIdentities', undefined)).toHaveLength(1);
  });
});

describe('a vault that the station can not open', () => {
  const about = {
    purpose: 'backup',
    deviceId: parseDeviceId('0123456789abcdef01234567')!,
    generation: null,
    fingerprint: null,
    at: 1,
  } as const;

  test('seals to each recipient once, and says that it is closed', async () => {
    const [one, two] = [freshIdentity(), freshIdentity()];
    const vault = vaultWith({
      recipients: () => Promise.resolve([one.recipient, two.recipient, one.recipient]),
      identities: () => Promise.resolve([freshIdentity().identity]),
      opensAll: false,
      closedHint: 'ask them',
    });
    const sealed = await vault.seal(Buffer.from('x'), about);
    expect(
      Buffer.from(sealed)
        .toString('latin1')
        .match(/-> X25519/g),
    ).toHaveLength(2);
    await expect(vault.open(sealed, about)).rejects.toMatchObject({
      code: 'VAULT_CLOSED',
      message: `a sealed item of device ${about.deviceId} is sealed to none of the identities that are here`,
      hint: 'ask them',
    });
    for (const identity of [one, two]) expect(await vaultOf(identity).open(sealed, about)).toEqual(Buffer.from('x'));
  });

  test('seals nothing to nobody', async () => {
    const nobody = { recipients: () => Promise.resolve([]), identities: () => Promise.resolve([]), opensAll: false };
    await expect(vaultWith(nobody).seal(Buffer.from('x'), about)).rejects.toMatchObject({ code: 'BUG' });
  });
});
