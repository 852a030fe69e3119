import { execFile } from 'node:child_process';
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/* Debian's own programs, which have their opinion from nobody here. */

const runs = promisify(execFile);

/** Reads with dfu-util; from a device's DCT, if no other alternate setting is named. */
export async function dfuRead(path: string, offset: number, length: number, alternate = 1): Promise<Buffer> {
  return await inFolder(async folder => {
    const file = join(folder, 'read.bin');
    await dfuUtil(path, ['-a', String(alternate), '-s', `${offset}:${length}`, '-U', file]);
    const bytes = await readFile(file);
    if (bytes.length !== length) throw new Error(`${path}: dfu-util gave ${bytes.length} of ${length} bytes`);
    return bytes;
  });
}

/** Writes to a device's DCT with dfu-util. */
export async function dfuWrite(path: string, offset: number, bytes: Buffer): Promise<void> {
  await inFolder(async folder => {
    const file = join(folder, 'write.bin');
    await writeFile(file, bytes);
    await dfuUtil(path, ['-a', '1', '-s', String(offset), '-D', file]);
  });
}

async function dfuUtil(path: string, args: readonly string[]): Promise<void> {
  await runs('dfu-util', ['-d', '2b04:d006', '-p', path, ...args]);
}

/** A fresh RSA-1024 key as openssl writes PKCS#1 DER. */
export async function opensslKey(): Promise<Buffer> {
  return await inFolder(async folder => {
    const [pem, der] = [join(folder, 'key.pem'), join(folder, 'key.der')];
    await runs('openssl', ['genrsa', '-traditional', '-out', pem, '1024']);
    await runs('openssl', ['rsa', '-traditional', '-in', pem, '-outform', 'DER', '-out', der]);
    return await readFile(der);
  });
}

/** Opens a sealed item with the program `age` alone. */
export async function ageOpen(sealed: Buffer, identityFile: string): Promise<Buffer> {
  return await inFolder(async folder => {
    const [cipher, plain] = [join(folder, 'sealed.age'), join(folder, 'plain')];
    await writeFile(cipher, sealed);
    await runs('age', ['-d', '-i', identityFile, '-o', plain, cipher]);
    return await readFile(plain);
  });
}

/** The public half of a PKCS#1 key that begins `bytes`, as SPKI DER. */
export function publicHalfOf(bytes: Buffer): Buffer {
  const privateKey = createPrivateKey({ key: bytes, format: 'der', type: 'pkcs1' });
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Two at a time: as many as the guest has processors. */
export async function eachOf<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = [...items.entries()];
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) results[next[0]] = await act(next[1]);
  };
  await Promise.all([worker(), worker()]);
  return results;
}

async function inFolder<T>(act: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'photon-fleet-usb-'));
  try {
    return await act(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
