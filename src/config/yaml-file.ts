import { isUtf8 } from 'node:buffer';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { Lexer, LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument, type Document, type Node } from 'yaml';
import { Fault } from '../core/errors.ts';
import { isNestedTooDeep, PLAIN_YAML } from '../core/plain-yaml.ts';
import { printable } from '../core/printable.ts';
import type { ConfigProblem } from './problems.ts';
import { systemCode } from '../core/system-code.ts';

const MAX_BYTES = 1_048_576;

/** 1-based. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A file of YAML that remembers where everything stands in it. */
export interface YamlFile {
  /** Plain data; `null` where nothing is in it, or where it is no YAML. */
  readonly data: unknown;
  /** Where the value (or the name) at `path` stands; of the nearest thing around it if it has no place of its own. */
  locate(path: readonly PropertyKey[], part: 'name' | 'value'): Position;
  /** What is wrong with it as YAML. */
  readonly problems: readonly { readonly at: Position; readonly message: string }[];
}

/**
 * @param path absolute, to be read
 * @param display how messages call the file
 * @returns null where there is no such file
 * @throws Fault CONFIG_UNREADABLE
 */
export function readText(path: string, display: string): string | null {
  const unreadable = (why: string, cause?: unknown): Fault =>
    new Fault('CONFIG_UNREADABLE', `${display}: the configuration can't be read: ${why}`, {
      facts: { path: display },
      cause,
    });
  let bytes: Buffer;
  try {
    // Without blocking, or a named pipe that nobody writes to would hold us here for ever.
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(file);
      if (stat.isDirectory()) throw unreadable('it is a folder');
      if (!stat.isFile()) throw unreadable('it is no regular file');
      if (stat.size > MAX_BYTES) throw unreadable(`it is longer than ${MAX_BYTES} bytes`);
      bytes = readFileSync(file);
    } finally {
      closeSync(file);
    }
  } catch (thrown) {
    if (thrown instanceof Fault) throw thrown;
    const code = systemCode(thrown);
    if (code === 'ENOENT') return null;
    throw unreadable(code === 'EACCES' ? 'this user may not read it' : code, thrown);
  }
  if (!isUtf8(bytes)) throw unreadable('it is not UTF-8');
  return bytes.toString('utf8');
}

export function parseYaml(text: string): YamlFile {
  const lines = new LineCounter();
  const isDeep = isNestedTooDeep(new Lexer().lex(text));
  const document = parseDocument(isDeep ? '' : text, { ...PLAIN_YAML, lineCounter: lines, logLevel: 'error' });
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const problems = [...document.errors, ...document.warnings].map(problem => ({
    at: at(problem.pos[0]),
    message: printable(problem.message),
  }));
  if (isDeep) problems.push({ at: at(0), message: 'it is nested too deep' });
  let data: unknown = null;
  if (problems.length === 0) {
    try {
      data = document.toJS({ maxAliasCount: 100 }) as unknown;
    } catch (cause) {
      // Aliases without an anchor, or so many that they would fill the memory.
      problems.push({ at: at(0), message: cause instanceof Error ? printable(cause.message) : 'it is no plain data' });
    }
  }
  return { data, problems, locate: (path, part) => at(offsetOf(document, path, part)) };
}

function offsetOf(document: Document, path: readonly PropertyKey[], part: 'name' | 'value'): number {
  let node = document.contents;
  let offset = node?.range?.[0] ?? 0;
  for (const [depth, segment] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document) ?? null;
    let next: unknown = null;
    if (isMap(node)) {
      const pair = node.items.find(item => (isScalar(item.key) ? String(item.key.value) : '') === String(segment));
      const name = pair?.key as Node | undefined;
      offset = name?.range?.[0] ?? offset;
      next = pair?.value ?? null;
      if (part === 'name' && depth === path.length - 1) return offset;
    } else if (isSeq(node)) {
      next = node.items[Number(segment)] ?? null;
    }
    node = next as Node | null;
    const [start, end] = node?.range ?? [0, 0];
    if (end > start) offset = start; // an empty value has no place: the name's stands for it
  }
  return offset;
}

/** Turns what the parser said into problems of the configuration. */
export function yamlProblems(file: YamlFile, display: string): ConfigProblem[] {
  return file.problems.map(({ at, message }) => ({
    where: `${display}:${at.line}:${at.column}`,
    key: null,
    message,
  }));
}
