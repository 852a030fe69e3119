import {
  closeSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { Fault } from '../core/errors.ts';
import { systemCode } from '../core/system-code.ts';

/** A station's own age identity. `identity` is as secret as every key it opens. */
export interface StationIdentity {
  readonly identity: string;
  readonly recipient: string;
}

/** Where the identity lies unless the configuration says otherwise: beside the database. */
export function identityFileOf(database: string): string {
  return `${database.replace(/\.db$/, '')}.identity`;
}

/**
 * Reads the identity file; its mode is tightened to 0600.
 * @returns null where there is none
 * @throws Fault VAULT_IDENTITY where it can't be read or holds none
 */
export async function readIdentity(path: string): Promise<StationIdentity | null> {
  let text: string;
  try {
    const fd = openSync(path, 'r');
    try {
      const stat = fstatSync(fd);
      if (stat.isFile() && stat.mode & 0o077) fchmodSync(fd, 0o600);
      text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return null;
    throw new Fault('VAULT_IDENTITY', `the identity file ${path} can't be read (${systemCode(cause)})`, { cause });
  }
  const identity = text
    .split('\n')
    .map(line => line.trim())
    .find(line => line.startsWith('AGE-SECRET-KEY-'));
  if (identity === undefined) throw new Fault('VAULT_IDENTITY', `the identity file ${path} holds no age identity`);
  try {
    return { identity, recipient: await identityToRecipient(identity) };
  } catch {
    // What age says of it may quote the line, which is secret.
    throw new Fault('VAULT_IDENTITY', `the identity file ${path} holds no valid age identity`);
  }
}

/**
 * Makes the identity file: exclusive, 0600, on disk together with its folder before anything is sealed to it. Where
 * another process was quicker, its identity is taken.
 * @throws Fault VAULT_IDENTITY
 */
export async function makeIdentity(path: string): Promise<StationIdentity> {
  const identity = await generateX25519Identity();
  const recipient = await identityToRecipient(identity);
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    writeNew(
      temporary,
      `# photon-fleet: opens the backups and private keys of this station; keep a copy in a safe place\n` +
        `# public key: ${recipient}\n${identity}\n`,
    );
    try {
      linkSync(temporary, path); // whole or not at all, and never over another one
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
      const theirs = await readIdentity(path);
      if (theirs) return theirs;
      throw error;
    } finally {
      unlinkSync(temporary);
    }
    syncFolder(dirname(path));
    return { identity, recipient };
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault('VAULT_IDENTITY', `the identity file ${path} can't be made (${systemCode(cause)})`, {
      hint: 'name a folder that you may write to with --db or `vault.identityFile`',
      cause,
    });
  }
}

/** A new file, 0600, on disk when this returns; nothing of it is left where it can't be written. */
function writeNew(path: string, text: string): void {
  const fd = openSync(path, 'wx', 0o600);
  try {
    const bytes = Buffer.from(text);
    if (writeSync(fd, bytes) !== bytes.length) throw new Error('it was written in part only');
    fsyncSync(fd);
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    closeSync(fd);
  }
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
