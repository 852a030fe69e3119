import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import { Fault } from '../core/errors.ts';
import { syncFolder, writeWholeFile } from '../core/secret-file.ts';
import { systemCode } from '../core/system-code.ts';
import { newIdentity, recipientTextOf } from './x25519.ts';

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
 * Reads the station's identity file; its mode is tightened to 0600.
 * @returns null where there is none
 * @throws Fault VAULT_IDENTITY where it can't be read or holds none
 */
// eslint-disable-next-line @typescript-eslint/require-await -- a fault of it is a rejection
export async function readIdentity(path: string): Promise<StationIdentity | null> {
  return read(path, true)?.[0] ?? null;
}

/**
 * Reads a file that was named by hand, as `age-keygen` writes it, with one identity or several. It is left as it is: it may
 * lie on a stick that can't be written, or be a pipe.
 * @throws Fault VAULT_IDENTITY
 */
// eslint-disable-next-line @typescript-eslint/require-await -- a fault of it is a rejection
export async function readIdentitiesByHand(path: string): Promise<readonly [StationIdentity, ...StationIdentity[]]> {
  const identities = read(path, false);
  if (identities) return identities;
  throw new Fault('VAULT_IDENTITY', `there is no identity file ${path}`, { hint: 'check the path after --identity' });
}

function read(path: string, tighten: boolean): [StationIdentity, ...StationIdentity[]] | null {
  let text: string;
  try {
    const fd = openSync(path, 'r');
    try {
      const stat = fstatSync(fd);
      if (tighten && stat.isFile() && stat.mode & 0o077) fchmodSync(fd, 0o600);
      text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return null;
    throw new Fault('VAULT_IDENTITY', `the identity file ${path} can't be read (${systemCode(cause)})`, { cause });
  }
  const lines = text.split('\n').map(line => line.trim());
  const [first, ...others] = lines.filter(line => line.startsWith('AGE-SECRET-KEY-'));
  if (first === undefined) throw new Fault('VAULT_IDENTITY', `the identity file ${path} holds no age identity`);
  try {
    return [withRecipient(first), ...others.map(withRecipient)];
  } catch {
    // What is said of it may quote the line, which is secret.
    throw new Fault('VAULT_IDENTITY', `the identity file ${path} holds no valid age identity`);
  }
}

function withRecipient(identity: string): StationIdentity {
  return { identity, recipient: recipientTextOf(identity) };
}

/** A fresh identity, in no file yet. */
export function freshIdentity(): StationIdentity {
  return withRecipient(newIdentity());
}

/**
 * Makes the station's identity file. Where another process was quicker, its identity is taken.
 * @throws Fault VAULT_IDENTITY
 */
export async function makeIdentity(path: string): Promise<StationIdentity> {
  const made = freshIdentity();
  const says = 'opens the backups and private keys of this station; keep a copy in a safe place';
  if (writeIdentity(path, made, says)) return made;
  const theirs = await readIdentity(path);
  if (theirs) return theirs;
  throw new Fault('VAULT_IDENTITY', `the identity file ${path} can't be made (EEXIST)`);
}

/**
 * Writes an identity file: exclusive, 0600, on disk together with its folder before anything is sealed to it.
 * @returns false where there is a file already, which is left as it is
 * @throws Fault VAULT_IDENTITY
 */
export function writeIdentity(path: string, { identity, recipient }: StationIdentity, says: string): boolean {
  try {
    return writeWholeFile(path, `# photon-fleet: ${says}\n# public key: ${recipient}\n${identity}\n`);
  } catch (cause) {
    throw new Fault('VAULT_IDENTITY', `the identity file ${path} can't be made (${systemCode(cause)})`, {
      hint: 'name a folder that you may write to with --db or `vault.identityFile`',
      cause,
    });
  }
}

/**
 * Overwrites an identity file and takes it away, so that neither its name nor, as far as the disk allows it, its bytes are
 * left. One that is not there is gone already.
 */
export function destroyIdentity(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  try {
    const noise = randomBytes(fstatSync(fd).size);
    writeSync(fd, noise, 0, noise.length, 0);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  unlinkSync(path);
  syncFolder(dirname(path));
}
