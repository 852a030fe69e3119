import { createPublicKey } from 'node:crypto';
import Database from 'better-sqlite3';
import { proveJournal } from '#src/cli/audit-verify.ts';
import { checkAll } from '#src/cli/check-record.ts';
import type { DeviceId } from '#src/core/device-id.ts';
import { sha256Hex } from '#src/core/bytes.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import type { Vault } from '#src/vault/vault.ts';
import { DirectStore } from './direct-store.ts';

/** What the reader of the record is told of one device by the world outside: its flash, and the cloud's log. */
export interface Witness {
  readonly deviceId: DeviceId;
  /** Bytes 0..8390 as they are now. */
  readonly dct: Buffer;
  /** Fingerprint of the key that was there before anything began; null where it was none. */
  readonly firstKey: string | null;
  /** Fingerprints that the cloud has stored for it, in order. */
  readonly told: readonly string[];
  readonly maxInFlight: number;
}

interface KeyRow {
  device_id: string;
  generation: number;
  fingerprint: string;
  state: string;
  phase: string | null;
  origin: string;
  sealed_private: Uint8Array | null;
  send: string | null;
}

interface BackupRow {
  device_id: string;
  fingerprint: string;
  sealed: Uint8Array;
}

/**
 * Whether the three promises hold at this moment, whatever has just been cut: A, no device carries a key that is not
 * recorded, ready to be sent and sealed; B, the cloud was never told a key older than one that it was told of before, and
 * never two at once; and the record is whole, all that is sealed included. Reads tables, flash and the cloud's log, and
 * nothing of what the program says of itself.
 * @returns every breach in words
 */
export async function breaches(dbPath: string, vault: Vault, witnesses: readonly Witness[]): Promise<string[]> {
  const said: string[] = [];
  {
    await using store = new DirectStore(dbPath);
    said.push(...(await checkAll(store, vault)));
    const { problems } = await proveJournal(store);
    said.push(...problems.map(({ seq, what }) => `the journal, event ${seq}: ${what}`));
  }
  const db = new Database(dbPath, { readonly: true });
  try {
    const keys = db
      .prepare<[], KeyRow>(
        `SELECT keys.device_id, keys.generation, keys.fingerprint, keys.state, keys.origin, keys.sealed_private,
                sends.state AS send,
                (SELECT phase FROM writes WHERE key_id = keys.id ORDER BY id DESC LIMIT 1) AS phase
           FROM keys LEFT JOIN sends ON sends.key_id = keys.id ORDER BY keys.generation`,
      )
      .all();
    const backups = db
      .prepare<[], BackupRow>('SELECT device_id, fingerprint, sealed FROM backups WHERE fingerprint IS NOT NULL')
      .all();
    for (const witness of witnesses) {
      const isOwn = ({ device_id: id }: { device_id: string }): boolean => id === witness.deviceId;
      const found = await breachesOf(witness, keys.filter(isOwn), backups.filter(isOwn), vault);
      said.push(...found.map(words => `${witness.deviceId}: ${words}`));
    }
  } finally {
    db.close();
  }
  return said;
}

async function breachesOf(
  witness: Witness,
  keys: readonly KeyRow[],
  backups: readonly BackupRow[],
  vault: Vault,
): Promise<string[]> {
  const said: string[] = [];
  const field = witness.dct.subarray(34, 34 + 1216);
  const { publicKey } = classifyPrivateKey(field);
  const there = publicKey?.fingerprint ?? null;
  const key = keys.filter(({ fingerprint }) => fingerprint === there).at(-1);
  if (there !== null && there !== witness.firstKey) {
    if (!key) said.push('A: the key on it is not on record');
    else if (key.origin === 'restored') {
      const { deviceId } = witness;
      const sealed = backups.filter(({ fingerprint }) => fingerprint === there);
      const about = { purpose: 'backup', deviceId, generation: null, fingerprint: there } as const;
      const opened = await Promise.all(sealed.map(one => vault.open(one.sealed, about)));
      if (key.send === null) said.push('A: the key on it can not be sent');
      if (!opened.some(dct => dct.subarray(34, 34 + 1216).equals(field))) said.push('A: no backup has the key on it');
    } else if (key.sealed_private === null) said.push('A: the key on it is not sealed');
    else {
      if (key.send === null) said.push('A: the key on it can not be sent');
      const sealed = await vault.open(key.sealed_private, {
        purpose: 'private-key',
        deviceId: witness.deviceId,
        generation: key.generation,
        fingerprint: key.fingerprint,
      });
      if (!field.subarray(0, sealed.length).equals(sealed)) said.push('A: another private key is sealed');
    }
  }
  const rolledBack = new Set(keys.filter(({ phase }) => phase === 'rolled-back').map(({ fingerprint }) => fingerprint));
  let newest = 0;
  for (const fingerprint of witness.told) {
    // A key that was put back on purpose is a later generation too, and is told again as that.
    const generations = keys.filter(one => one.fingerprint === fingerprint).map(one => one.generation);
    const generation = generations.find(one => one >= newest);
    if (generations.length === 0) said.push(`B: the cloud was told ${fingerprint}, which is not on record`);
    // After a roll-back the key before it is the one on the device, and is told again.
    else if (generation === undefined && rolledBack.size === 0) said.push('B: the cloud was told an older key again');
    newest = generation ?? newest;
  }
  if (witness.maxInFlight > 1) said.push('B: two of its keys were on their way at once');
  return said;
}

const RECORDED: Readonly<Record<string, string>> = {
  backups: 'id, device_id, attempt_id, taken_at, sha256, bytes, classification, fingerprint, hex(sealed)',
  keys: 'id, device_id, generation, fingerprint, algorithm, bits, origin, public_pem, hex(sealed_private), created_at',
  attempts: 'id, run_id, device_id, path, started_at',
  endings: 'id, outcome, code, message, ended_at',
  sends: 'id, key_id, device_id, product_id, created_at',
  accepted: 'id, accepted_at IS NOT NULL',
  steps: 'attempt_id, seq, name, state, started_at, ms',
};
const FROM: Readonly<Record<string, string>> = {
  endings: 'attempts WHERE ended_at IS NOT NULL',
  accepted: 'sends WHERE accepted_at IS NOT NULL',
};

/** Everything that neither changes nor goes once it is recorded (promise C), as one line each. */
export function recorded(dbPath: string): ReadonlySet<string> {
  const db = new Database(dbPath, { readonly: true });
  try {
    const lines = Object.entries(RECORDED).flatMap(([name, columns]) =>
      db
        .prepare(`SELECT ${columns} FROM ${FROM[name] ?? name}`)
        .raw()
        .all()
        .map(row => `${name} ${sha256Hex(Buffer.from(JSON.stringify(row)))} ${JSON.stringify((row as unknown[])[0])}`),
    );
    return new Set(lines);
  } finally {
    db.close();
  }
}

/** What was recorded and is not there any more as it was. */
export function lost(before: ReadonlySet<string>, after: ReadonlySet<string>): string[] {
  return [...before].filter(line => !after.has(line)).map(line => `C: ${line}`);
}

/** Fingerprint of a PEM, by Node's own reader. */
export function fingerprintOf(pem: string): string {
  return sha256Hex(createPublicKey(pem).export({ format: 'der', type: 'spki' }));
}
