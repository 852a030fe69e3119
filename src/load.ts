import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';

/*
 * Loads the files that the build has joined (`dist/bundle`), each with the code that V8 made of it when it was built, as far as
 * that code is there and of this very V8: to parse and compile a megabyte anew takes as long as all of a small command.
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
  return loadFile(join(dirname(fileURLToPath(import.meta.url)), 'bundle', `${name}.cjs`)) as T;
}

function loadFile(file: string): unknown {
  const before = loaded.get(file);
  if (before) return before.exports;
  const module: Loaded = { exports: {} };
  loaded.set(file, module);
  const folder = dirname(file);
  const outside = createRequire(file);
  const require = (id: string): unknown => (id.startsWith('.') ? loadFile(join(folder, id)) : outside(id));
  const source = readFileSync(file, 'utf8');
  const script = new Script(`(function (exports, require, module, __filename, __dirname) {${source}\n})`, {
    filename: file,
    cachedData: compiledOf(file),
  });
  (script.runInThisContext() as Factory)(module.exports, require, module, file, folder);
  return module.exports;
}

/** What V8 itself looks at is its own version, and how long the source is. @returns undefined where it is older than the source */
function compiledOf(file: string): Buffer | undefined {
  const compiled = statSync(`${file}.compiled`, { throwIfNoEntry: false });
  if (!compiled || compiled.mtimeMs < statSync(file).mtimeMs) return undefined;
  return readFileSync(`${file}.compiled`);
}
