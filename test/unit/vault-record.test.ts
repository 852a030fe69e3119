import { describe, expect, test } from 'vitest';
import { sha256Hex } from '#src/core/bytes.ts';
import { faultOf, RecordBench } from '../support/record-bench.ts';

const ESCROW = { policy: 'escrow', recipients: ['age1one', 'age1two'] } as const;

describe('what the record says of the vault', () => {
  test('is nothing at first, then what was bound, and no other binding comes over it', async () => {
    await using record = RecordBench.open();
    const { store } = record;
    expect(await store.call('vaultState', undefined)).toEqual({ bound: null, rewrap: null });
    await store.call('bindVault', ESCROW);
    await store.call('bindVault', { policy: 'none', recipients: [] });
    expect(await store.call('vaultState', undefined)).toEqual({ bound: ESCROW, rewrap: null });
    expect((await store.call('stationId', undefined)).recipient).toBeNull();
  });

  test('is the recipient of the station itself for `local`', async () => {
    await using record = RecordBench.open();
    await record.store.call('bindRecipient', 'age1mine');
    const { bound } = await record.store.call('vaultState', undefined);
    expect(bound).toEqual({ policy: 'local', recipients: ['age1mine'] });
  });
});

describe('a rewrap on record', () => {
  async function bench() {
    const record = RecordBench.open();
    await record.store.call('bindRecipient', 'age1mine');
    await (await record.device()).accepted('new', { left: true });
    await record.store.call('beginRewrap', { ...ESCROW, at: 1 });
    return record;
  }
  const hashes = (record: RecordBench): unknown[] =>
    record.list('SELECT sealed_sha256 FROM keys UNION ALL SELECT sealed_sha256 FROM backups');

  test('takes an item with its hash, the mark of how far it is, and its event in one', async () => {
    await using record = await bench();
    const [insteadOf] = record.list('SELECT sealed_sha256 FROM keys') as string[];
    const sealed = Uint8Array.of(1, 2, 3);
    await record.store.call('resealPage', {
      table: 'keys',
      items: [{ id: 1, insteadOf: insteadOf!, sealed }],
      through: 1,
    });
    expect(record.list('SELECT hex(sealed_private) FROM keys')).toEqual(['010203']);
    expect(hashes(record)[0]).toBe(sha256Hex(sealed));
    const { bound, rewrap } = await record.store.call('vaultState', undefined);
    expect(bound?.policy).toBe('local');
    expect(rewrap).toEqual({ ...ESCROW, keysThrough: 1, backupsThrough: 0 });
    const [event] = record.list('SELECT body FROM journal ORDER BY seq DESC LIMIT 1') as string[];
    expect(JSON.parse(event!)).toMatchObject({
      event: 'sealed-anew',
      set: [
        ['keys', { id: 1 }, { sealed_sha256: sha256Hex(sealed) }],
        ['station', { only_one: 1 }, { vault_rewrap: JSON.stringify(rewrap) }],
      ],
    });
    await record.store.call('endRewrap', undefined);
    expect(await record.store.call('vaultState', undefined)).toEqual({ bound: ESCROW, rewrap: null });
  });

  test('does not come over an item that is another one by now', async () => {
    await using record = await bench();
    const before = hashes(record);
    const items = [{ id: 1, insteadOf: 'ab'.repeat(32), sealed: Uint8Array.of(1) }];
    expect(await faultOf(record.store.call('resealPage', { table: 'backups', items, through: 1 }))).toMatchObject({
      code: 'BUG',
    });
    expect(hashes(record)).toEqual(before);
    expect((await record.store.call('vaultState', undefined)).rewrap?.backupsThrough).toBe(0);
  });

  test('is begun once', async () => {
    await using record = await bench();
    await expect(record.store.call('beginRewrap', { ...ESCROW, at: 1 })).rejects.toThrow();
  });
});
