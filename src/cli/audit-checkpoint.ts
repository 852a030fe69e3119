import { readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import {
  originOf,
  openCheckpoint,
  rawPublic,
  signCheckpoint,
  verifierKey,
  ed25519Public,
} from '../audit/signed-note.ts';
import type { Checkpoint } from '../audit/signed-note.ts';
import { makeSigningKey, readSigningKey, signingKeyFileOf } from '../audit/signing-key.ts';
import type { Config } from '../config/config.ts';
import { systemClock } from '../core/clock.ts';
import { Fault, toFault } from '../core/errors.ts';
import { syncFolder, writeNewFile } from '../core/secret-file.ts';
import { systemCode } from '../core/system-code.ts';
import type { Store } from '../store/store.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { AuditArgs } from './commands/audit.ts';
import { configOf, openRecord } from './compose.ts';
import { EXIT } from './exit-codes.ts';

/**
 * The station's signing key; made on first use, and never again once the database is bound to it.
 * @throws Fault SIGNING_KEY
 */
export async function signingKeyOf(config: Config, store: Store): Promise<KeyObject> {
  const path = config.values.audit.signingKeyFile ?? signingKeyFileOf(config.values.db);
  const { signingKey } = await store.call('journalHead', undefined);
  let key = readSigningKey(path);
  if (!key) {
    if (signingKey !== null) {
      throw new Fault('SIGNING_KEY', `the signing key ${path}, which this database is bound to, is not there`);
    }
    key = makeSigningKey(path);
  }
  await store.call('bindSigningKey', rawPublic(key).toString('base64'));
  return key;
}

export interface Signed extends Checkpoint {
  readonly note: string;
  /** Where the copy went; null where no folder is configured. */
  readonly copy: string | null;
}

/**
 * Signs the journal's head, keeps the note in the record and copies it to `audit.checkpointDir`.
 * @throws Fault SIGNING_KEY, FILE_UNWRITABLE
 */
export async function checkpoint(config: Config, store: Store): Promise<Signed> {
  await compareWithCopies(config, store); // a record that was put back from an older copy signs nothing
  const key = await signingKeyOf(config, store);
  const { stationId, seq, hash } = await store.call('journalHead', undefined);
  const at = systemClock.now();
  const signed = { origin: originOf(stationId), seq, hash: Buffer.from(hash, 'hex'), at: new Date(at).toISOString() };
  const note = signCheckpoint(signed, key);
  await store.call('addCheckpoint', { seq, note, at });
  const { checkpointDir } = config.values.audit;
  return { ...signed, note, copy: checkpointDir === null ? null : copyNote(checkpointDir, stationId, seq, note) };
}

/** After a run: a checkpoint that can't be made is said, and changes nothing of what the run has done. */
export async function sealJournal(config: Config, store: Store, { out }: CommandContext): Promise<void> {
  try {
    await checkpoint(config, store);
  } catch (error) {
    const { message, hint } = toFault(error);
    out.talk(`warning: the journal has no checkpoint of this run: ${message}`);
    out.talk(`hint: ${hint}`);
  }
}

/** What of the configuration says how devices and keys are treated. Nothing of it is secret. */
export function auditedSettings({ values }: Config): Record<string, unknown> {
  const { cloud, server, firmware, vault, audit, quarantineAfter } = values;
  return { cloud, server, firmware, vault, audit, quarantineAfter };
}

const noteFile = (stationId: string, seq: number): string => `${stationId}-${String(seq).padStart(12, '0')}.note`;

function copyNote(folder: string, stationId: string, seq: number, note: string): string {
  const file = join(folder, noteFile(stationId, seq));
  const half = `${file}.${randomBytes(6).toString('hex')}.new`;
  try {
    // Whole or not at all. One of this very event may be there: it was compared before, and is as good.
    writeNewFile(half, note);
    renameSync(half, file);
    syncFolder(folder);
  } catch (cause) {
    rmSync(half, { force: true });
    throw new Fault('FILE_UNWRITABLE', `the checkpoint can't be copied to ${folder} (${systemCode(cause)})`, {
      hint: 'check that `audit.checkpointDir` is there and can be written to',
      cause,
    });
  }
  return file;
}

/** `audit checkpoint`. */
export async function makeCheckpoint(args: AuditArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  const { note, copy, seq, hash } = await checkpoint(config, store);
  if (args.json) context.out.result(JSON.stringify({ seq, hash: hash.toString('hex'), note, copy }));
  else context.out.result(note.trimEnd());
  if (copy !== null) context.out.talk(`copied to ${copy}`);
  else
    context.out.talk('keep it elsewhere: with `audit verify --checkpoint FILE` it shows whether the journal was cut');
  return EXIT.OK;
}

/** `audit key`: what others need to prove checkpoints and reports. */
export async function showKey(args: AuditArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  const key = await signingKeyOf(config, store);
  const { stationId } = await store.call('journalHead', undefined);
  const pem = ed25519Public(rawPublic(key)).export({ format: 'pem', type: 'spki' }).toString();
  const note = verifierKey(originOf(stationId), rawPublic(key));
  context.out.result(args.json ? JSON.stringify({ stationId, pem, verifierKey: note }) : pem.trimEnd());
  if (!args.json) context.out.talk(`for verifiers of signed notes: ${note}`);
  return EXIT.OK;
}

const MAX_NOTE_BYTES = 4096;

/** @throws Fault USAGE where it can't be read, CHECKPOINT_INVALID where it can't be proven */
export function readCheckpoint(file: string, stationId: string, signingKey: string): Checkpoint {
  let note: string;
  try {
    const bytes = readFileSync(file);
    note = bytes.length <= MAX_NOTE_BYTES ? bytes.toString() : '';
  } catch (cause) {
    throw new Fault('USAGE', `the checkpoint ${file} can't be read (${systemCode(cause)})`, {
      hint: 'check its path and its permissions',
      cause,
    });
  }
  return openCheckpoint(note, originOf(stationId), Buffer.from(signingKey, 'base64'));
}

/**
 * The newest checkpoint of this station in the folder of copies against the journal: one that is ahead says that the
 * database was put back from an older copy.
 * @throws Fault RECORD_BEHIND, RECORD_JOURNAL, CHECKPOINT_INVALID
 */
export async function compareWithCopies(config: Config, store: Store): Promise<void> {
  const { checkpointDir } = config.values.audit;
  if (checkpointDir === null) return;
  const { stationId, signingKey } = await store.call('journalHead', undefined);
  let newest: string | undefined;
  try {
    newest = readdirSync(checkpointDir)
      .filter(name => name.startsWith(`${stationId}-`) && name.endsWith('.note'))
      .sort()
      .at(-1);
  } catch (cause) {
    throw new Fault(
      'FILE_UNWRITABLE',
      `the folder of checkpoints ${checkpointDir} can't be read (${systemCode(cause)})`,
      {
        hint: 'check that `audit.checkpointDir` is there and can be written to',
        cause,
      },
    );
  }
  if (newest === undefined) return;
  if (signingKey === null) {
    throw new Fault('RECORD_BEHIND', `this database has signed nothing, and ${newest} is a checkpoint of its station`);
  }
  await compareWith(store, readCheckpoint(join(checkpointDir, newest), stationId, signingKey));
}

/** @throws Fault RECORD_BEHIND, RECORD_JOURNAL */
export async function compareWith(store: Store, { seq, hash, at }: Checkpoint): Promise<void> {
  const { seq: there } = await store.call('journalHead', undefined);
  if (seq > there) {
    throw new Fault('RECORD_BEHIND', `the journal has ${there} events, and its checkpoint of ${at} says ${seq}`);
  }
  if ((await store.call('journalHashAt', seq)) !== hash.toString('hex')) {
    throw new Fault('RECORD_JOURNAL', `event ${seq} of the journal is not the one that was signed on ${at}`);
  }
}
