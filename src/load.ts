import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

/*
 * Loads the files that the build has joined (`dist/bundle`), each with the code that V8 made of it when it was built, as far as
 * that code is there, whole, of this very file and of this very Node: to parse and compile a megabyte anew takes as long as all
 * of a small command. It lies among them itself, as CommonJS too: what imports one of Node's own modules has all looked at that
 * this module exports, and so loaded much that nobody wants.
 */

interface Loaded {
  exports: unknown;
}

type Factory = (
  exports: unknown,
  require: (id: string) => unknown,
  module: Loaded,
  filename: string,
  dirname: string,
) => void;

const loaded = new Map<string, Loaded>();

/** What a file of the bundle exports. @param name without folder and ending: `main` */
export function load<T>(name: string): T {
  return loadFile(join(import.meta.dirname, `${name}.cjs`)) as T;
}

function loadFile(file: string): unknown {
  const before = loaded.get(file);
  if (before) return before.exports;
  const module: Loaded = { exports: {} };
  loaded.set(file, module);
  const folder = dirname(file);
  const outside = createRequire(file);
  const require = (id: string): unknown => (id.startsWith('.') ? loadFile(join(folder, id)) : outside(id));
  const source = readFileSync(file);
  const script = new Script(`(function (exports, require, module, __filename, __dirname) {${source.toString()}\n})`, {
    filename: file,
    cachedData: compiledOf(file, source),
  });
  try {
    (script.runInThisContext() as Factory)(module.exports, require, module, file, folder);
  } catch (error) {
    loaded.delete(file); // whoever asks again is told the same
    throw error;
  }
  return module.exports;
}

/** How long the head is in bytes, padded: what follows is as V8 wants it aligned. */
const HEAD_BYTES = 256;

/**
 * V8 itself looks at its version, its flags and the length of the source, and takes damaged code for good. On another processor
 * of the same kind the code is as good as here: it is V8's own, and none of a machine.
 */
function headOf(source: Uint8Array, compiled: Uint8Array): Buffer {
  const { version, versions, arch, platform } = process;
  const made = [version, versions.v8, arch, platform, crc32(source), crc32(compiled)].join(' ');
  return Buffer.from(`photon-fleet compiled 1 ${made}`.padEnd(HEAD_BYTES));
}

/** Compiled code as it is kept beside its file (`main.cjs.compiled`). */
export function packed(source: Uint8Array, compiled: Uint8Array): Buffer {
  return Buffer.concat([headOf(source, compiled), compiled]);
}

/** @returns undefined where there is none that can be used: a start takes longer, and that is all */
function compiledOf(file: string, source: Uint8Array): Buffer | undefined {
  let kept: Buffer;
  try {
    kept = readFileSync(`${file}.compiled`);
  } catch {
    return undefined;
  }
  const compiled = kept.subarray(HEAD_BYTES);
  return headOf(source, compiled).equals(kept.subarray(0, HEAD_BYTES)) ? compiled : undefined;
}
