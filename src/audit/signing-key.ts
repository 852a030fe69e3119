import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { closeSync, fchmodSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { Fault } from '../core/errors.ts';
import { writeWholeFile } from '../core/secret-file.ts';
import { systemCode } from '../core/system-code.ts';

const MAX_BYTES = 4096;

/** Where the signing key lies unless the configuration says otherwise: beside the database. */
export function signingKeyFileOf(database: string): string {
  return `${database.replace(/\.db$/, '')}.signing-key`;
}

/**
 * Reads the station's Ed25519 signing key (PEM, PKCS#8); its mode is tightened to 0600.
 * @returns null where there is none
 * @throws Fault SIGNING_KEY where it can't be read or is none
 */
export function readSigningKey(path: string): KeyObject | null {
  let pem: Buffer;
  try {
    const fd = openSync(path, 'r');
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile() || stat.size > MAX_BYTES) {
        throw new Fault('SIGNING_KEY', `the signing key ${path} is no file of a key`);
      }
      if (stat.mode & 0o077) fchmodSync(fd, 0o600);
      pem = readFileSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    if (systemCode(cause) === 'ENOENT') return null;
    throw new Fault('SIGNING_KEY', `the signing key ${path} can't be read (${systemCode(cause)})`, { cause });
  }
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch {
    // What OpenSSL says of it may quote it.
  } finally {
    pem.fill(0);
  }
  throw new Fault('SIGNING_KEY', `the file ${path} holds no Ed25519 private key`);
}

/**
 * Makes the signing key: 0600, whole or not at all, on disk with its folder. Where another process was quicker, its key
 * is taken.
 * @throws Fault SIGNING_KEY
 */
export function makeSigningKey(path: string): KeyObject {
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = Buffer.from(privateKey.export({ format: 'pem', type: 'pkcs8' }));
  try {
    if (writeWholeFile(path, pem)) return privateKey;
    const theirs = readSigningKey(path);
    if (theirs) return theirs;
    throw new Fault('SIGNING_KEY', `the signing key ${path} can't be made (EEXIST)`);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault('SIGNING_KEY', `the signing key ${path} can't be made (${systemCode(cause)})`, { cause });
  } finally {
    pem.fill(0);
  }
}
