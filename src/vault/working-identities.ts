import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Fault } from '../core/errors.ts';
import { systemCode } from '../core/system-code.ts';
import { destroyIdentity, freshIdentity, readIdentity, writeIdentity } from './identity-file.ts';
import type { StationIdentity } from './identity-file.ts';

/*
 * With the policies `escrow` and `none` the station can't open what it has sealed. So that it can finish what it began,
 * after a crash too, each run seals to a working identity of its own as well: a file beside the database, 0600, which is
 * destroyed when nothing of the run is open any more. With `local` there is none, since the station opens its items itself.
 * Key pairs that are prepared for later runs have one of their own as well, of no run, as long as there are any.
 *
 * The record knows of an identity before its file is there, and the file is on disk before anything is sealed to it: each
 * file that a crash leaves is on record, and is taken away by the next run.
 */

/** A working identity on record that is not destroyed. */
export interface WorkingIdentity {
  readonly recipient: string;
  /** null: that of the prepared key pairs. */
  readonly runId: number | null;
  /** Epoch milliseconds. */
  readonly madeAt: number;
  /** A write of the run, or one that goes back to a backup of the run, is not finished; or pairs are prepared. */
  readonly inUse: boolean;
}

/** The record's side of it. */
export interface WorkingRecord {
  note(working: { recipient: string; runId: number | null }): Promise<void>;
  list(): Promise<readonly WorkingIdentity[]>;
  noteDestroyed(recipient: string): Promise<void>;
}

export interface WorkingIdentities {
  /** That of a run, or of the prepared pairs: made when it is first asked for. @throws Fault VAULT_IDENTITY */
  of(runId: number | null): Promise<StationIdentity>;
  /** All that are on record, and whose files are there and sound. */
  there(): Promise<readonly StationIdentity[]>;
  /** Destroys those that nothing needs any more. @returns what could not be done, in words */
  tidy(): Promise<string[]>;
}

export function workingFileOf(database: string, runId: number | null): string {
  return `${database.replace(/\.db$/, '')}.working-${runId ?? 'prepared'}`;
}

export function workingIdentities(database: string, record: WorkingRecord): WorkingIdentities {
  const made = new Map<number | null, Promise<StationIdentity>>();
  const pathOf = (runId: number | null): string => workingFileOf(database, runId);
  return {
    of(runId) {
      let identity = made.get(runId);
      if (!identity) made.set(runId, (identity = take(pathOf(runId), runId, record)));
      return identity;
    },
    async there() {
      const listed = await record.list();
      const found = await Promise.all(listed.map(({ runId }) => readIfSound(pathOf(runId))));
      const known = new Set(listed.map(({ recipient }) => recipient));
      return found.filter(identity => identity !== null).filter(({ recipient }) => known.has(recipient));
    },
    async tidy() {
      made.clear();
      const problems: string[] = [];
      const listed = await record.list();
      for (const { runId, recipient } of listed.filter(({ inUse }) => !inUse)) {
        const path = pathOf(runId);
        try {
          const there = await readIfSound(path);
          // Another identity in it would be that of another database.
          if (!there || there.recipient === recipient) destroyIdentity(path);
        } catch (error) {
          problems.push(`the working identity ${path} can't be destroyed (${systemCode(error)}): remove it by hand`);
          continue;
        }
        await record.noteDestroyed(recipient);
      }
      try {
        for (const path of halfMade(database)) destroyIdentity(path);
      } catch (error) {
        problems.push(`half a working identity can't be taken away (${systemCode(error)})`);
      }
      return problems;
    },
  };
}

/** The file that a process before this one has left for the same run, or a new one. */
async function take(path: string, runId: number | null, record: WorkingRecord): Promise<StationIdentity> {
  const listed = await record.list();
  const there = await readIfSound(path);
  if (there && listed.some(one => one.runId === runId && one.recipient === there.recipient)) return there;
  const identity = freshIdentity();
  await record.note({ recipient: identity.recipient, runId });
  const says =
    runId === null
      ? 'lets the station use the key pairs that it has prepared; it is destroyed after that'
      : `lets the station finish what run ${runId} began; it is destroyed after that`;
  if (writeIdentity(path, identity, says)) return identity;
  throw new Fault('VAULT_IDENTITY', `the file ${path} is there, and is not of this record`, {
    hint: 'move it elsewhere: it may belong to another copy of this database',
  });
}

/** null where there is none, or one that was half destroyed. */
async function readIfSound(path: string): Promise<StationIdentity | null> {
  try {
    return await readIdentity(path);
  } catch {
    return null;
  }
}

/** Files of a process that died before what it wrote had its name: nothing was ever sealed to them. */
function halfMade(database: string): string[] {
  const folder = dirname(database);
  const base = `${basename(database).replace(/\.db$/, '')}.working-`;
  return readdirSync(folder)
    .filter(name => name.startsWith(base) && /^(\d+|prepared)\.[0-9a-f]{12}\.new$/.test(name.slice(base.length)))
    .map(name => join(folder, name));
}
