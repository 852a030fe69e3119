import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, realpath, type FileHandle } from 'node:fs/promises';
import { Fault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { LineSplitter } from './lines.ts';
import type { Manifest, ReadManifestOptions } from './manifest.ts';
import { MAX_PATH_CHARS, ManifestFault, Problems } from './problems.ts';
import { Table } from './table.ts';

const CHUNK_BYTES = 65_536;

/**
 * Reads a manifest: UTF-8 CSV with a header, in which `device_id` is the one required column. The file is read in
 * chunks; only its rows are kept.
 * @throws ManifestFault (MANIFEST_INVALID) with every problem of the file; Fault MANIFEST_UNREADABLE
 */
export async function readManifest(path: string, options: ReadManifestOptions = {}): Promise<Manifest> {
  const problems = new Problems();
  const table = new Table(options, problems);
  const hash = createHash('sha256');
  let real: string;
  try {
    // Without blocking, or a named pipe that nobody writes to would hold us here for ever.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (stat.isDirectory()) throw unreadable(path, 'it is a folder');
    if (!stat.isFile()) throw unreadable(path, 'it is no regular file');
    real = await realpath(path);
    await readThrough(file, hash, table, problems);
  } catch (thrown) {
    if (thrown instanceof Error && 'syscall' in thrown) throw unreadable(path, whyUnreadable(thrown), thrown);
    throw thrown;
  }
  if (problems.total > 0) throw new ManifestFault(path, problems);
  return { path: real, sha256: hash.digest('hex'), rows: table.rows };
}

async function readThrough(file: FileHandle, hash: Hash, table: Table, problems: Problems): Promise<void> {
  const splitter = new LineSplitter(problems);
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (let position = 0; ;) {
    const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, position);
    const bytes = Buffer.from(chunk.subarray(0, bytesRead)); // a copy: what is left of a line outlives the chunk
    if (position === 0 && isUtf16(bytes)) {
      problems.add(1, 1, 'the file is UTF-16: save it as UTF-8 (in Excel: "CSV UTF-8")');
      return; // nothing else in it can be told
    }
    position += bytesRead;
    hash.update(bytes);
    table.push(splitter.push(bytes, bytesRead === 0));
    if (bytesRead === 0) break;
  }
  table.end();
}

/** By its byte order mark. */
function isUtf16(bytes: Buffer): boolean {
  return (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
}

function whyUnreadable(error: Error & { readonly code?: unknown }): string {
  switch (error.code) {
    case 'ENOENT':
      return 'there is no such file';
    case 'EACCES':
    case 'EPERM':
      return 'this user may not read it';
    case 'ENOTDIR':
      return 'a part of the path is no folder';
    case 'ELOOP':
      return 'it is a link that leads in a circle';
    default:
      return typeof error.code === 'string' ? error.code : error.message;
  }
}

function unreadable(path: string, why: string, cause?: unknown): Fault {
  const name = printable(path, MAX_PATH_CHARS);
  return new Fault('MANIFEST_UNREADABLE', `${name}: the manifest can't be read: ${why}`, {
    facts: { path: name },
    cause,
  });
}
