import { describe, expect, test } from 'vitest';
import { chooseBackup } from '#src/cli/restore-device.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import { toFault } from '#src/core/errors.ts';
import type { KnownBackup, Restorable } from '#src/store/ops/restores.ts';

const ID = parseDeviceId('0a10aced202194944a0429d8')!;

function backup(backupId: number, fingerprint: string | null, more: Partial<KnownBackup> = {}): KnownBackup {
  const classification = fingerprint === null ? 'blank' : 'readable';
  return { backupId, takenAt: 0, sha256: 's', bytes: 8391, classification, fingerprint, mark: null, ...more };
}

const RAW = backup(9, null, { bytes: 32_768, classification: 'raw-dct' });

function found(backups: readonly KnownBackup[], more: Partial<Restorable> = {}): Restorable {
  return { activeFingerprint: 'now', begun: null, productId: null, backups, ...more };
}

function faultOf(act: () => unknown): { code: string; message: string; hint: string } {
  try {
    act();
  } catch (thrown) {
    const { code, message, hint } = toFault(thrown);
    return { code, message, hint };
  }
  throw new Error('nothing was thrown');
}

describe('without a number, the backup that is put back', () => {
  test.each<[string, Restorable, number]>([
    ['is the newest one', found([backup(1, 'a'), backup(2, 'b')]), 2],
    ['has another key than the device', found([backup(1, 'a'), backup(2, 'now')]), 1],
    ['has a key', found([backup(1, 'a'), backup(2, null)]), 1],
    ['is a whole DCT', found([backup(1, 'a'), RAW]), 1],
    ['has no key that a hand has marked', found([backup(1, 'a'), backup(2, 'b', { mark: 'compromised' })]), 1],
    [
      'is any with a key, where the record knows of none on it',
      found([backup(1, 'a')], { activeFingerprint: null }),
      1,
    ],
    ['is that of a restore which was cut short', found([backup(1, 'now'), backup(2, 'b')], { begun: 1 }), 1],
    [
      'is that of a restore which was cut short, of no key too',
      found([backup(1, null), backup(2, 'b')], { begun: 1 }),
      1,
    ],
  ])('%s', (_, from, expected) => {
    expect(chooseBackup(ID, from, null).backupId).toBe(expected);
  });

  test('is none where no other would do, and the fault says which there are', () => {
    expect(faultOf(() => chooseBackup(ID, found([backup(1, 'now'), backup(2, null)]), null))).toMatchInlineSnapshot(`
      {
        "code": "BACKUP_NOT_FOUND",
        "hint": "name one with --backup N; its backups: 1, 2; \`photon-fleet history 0a10aced202194944a0429d8\` tells what each holds",
        "message": "no backup of device 0a10aced202194944a0429d8 holds another key than the one on it",
      }
    `);
    expect(faultOf(() => chooseBackup(ID, found([RAW]), null))).toMatchInlineSnapshot(`
      {
        "code": "BACKUP_NOT_FOUND",
        "hint": "no whole backup of it was ever taken",
        "message": "no backup of device 0a10aced202194944a0429d8 holds another key than the one on it",
      }
    `);
  });
});

test('a number takes any whole backup of the device: marked, blank, or what is there already', () => {
  const all = [backup(1, 'now'), backup(2, null), backup(3, 'b', { mark: 'compromised' })];
  expect([1, 2, 3].map(wanted => chooseBackup(ID, found(all, { begun: 1 }), wanted).backupId)).toEqual([1, 2, 3]);
});

test('a number that is none of them, or a copy of the raw flash, is refused', () => {
  expect(faultOf(() => chooseBackup(ID, found([backup(1, 'a'), RAW]), 4))).toMatchInlineSnapshot(`
    {
      "code": "BACKUP_NOT_FOUND",
      "hint": "its backups: 1; \`photon-fleet history 0a10aced202194944a0429d8\` tells what each holds",
      "message": "device 0a10aced202194944a0429d8 has no backup 4",
    }
  `);
  expect(faultOf(() => chooseBackup(ID, found([backup(1, 'a'), RAW]), 9))).toMatchInlineSnapshot(`
    {
      "code": "BACKUP_NOT_FOUND",
      "hint": "it can be opened with the \`age\` program; its backups: 1; \`photon-fleet history 0a10aced202194944a0429d8\` tells what each holds",
      "message": "backup 9 is no whole DCT (32768 bytes, raw-dct): it can't be put back",
    }
  `);
});
