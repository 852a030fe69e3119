import { z } from 'zod';
import { issueMessage, valueAt } from './issues.ts';
import { CONFIG_KEYS, KEYS, type ConfigKey } from './keys.ts';
import { nearest } from './nearest.ts';
import { shown, type ConfigProblem } from './problems.ts';
import type { Position, YamlFile } from './yaml-file.ts';

/** What the file sets. */
export interface FileValue {
  readonly value: unknown;
  /** The line on which the key stands. */
  readonly line: number;
}

type Shape = Record<string, z.ZodType>;

const SECTIONS = [...new Set(CONFIG_KEYS.filter(key => key.includes('.')).map(key => key.split('.')[0] ?? ''))];

/** The whole file's schema: strict, so that a slip in a key is told and not passed over. */
const FILE = z.strictObject({
  ...shapeOf(''),
  ...Object.fromEntries(SECTIONS.map(section => [section, z.strictObject(shapeOf(`${section}.`)).nullish()])),
});

function shapeOf(prefix: string): Shape {
  const own = CONFIG_KEYS.filter(key => key.startsWith(prefix) && !key.slice(prefix.length).includes('.'));
  return Object.fromEntries(own.map(key => [key.slice(prefix.length), KEYS[key].schema.optional()]));
}

/** Checks what stands in the file. @returns the values by key; every problem goes to `problems`. */
export function fileValues(file: YamlFile, display: string, problems: ConfigProblem[]): Map<ConfigKey, FileValue> {
  const values = new Map<ConfigKey, FileValue>();
  if (file.data === null) return values; // an empty file sets nothing
  const result = FILE.safeParse(file.data);
  const found: { readonly at: Position; readonly key: ConfigKey | null; readonly message: string }[] = [];
  for (const issue of result.error?.issues ?? []) {
    const unknown = issue.code === 'unrecognized_keys' ? issue.keys : null;
    const paths = unknown ? unknown.map(name => [...issue.path, name]) : [issue.path];
    for (const path of paths) {
      const at = file.locate(path, unknown ? 'name' : 'value');
      const key = keyOf(path);
      const message = unknown
        ? unknownKey(path)
        : key
          ? wrongValue(key, issue, file.data, path)
          : noMap(path, file.data);
      found.push({ at, key, message });
    }
  }
  found.sort((a, b) => a.at.line - b.at.line || a.at.column - b.at.column);
  for (const { at, key, message } of found) {
    problems.push({ where: `${display}:${at.line}:${at.column}`, key, message });
  }
  if (!result.success) return values;
  for (const key of CONFIG_KEYS) {
    const path = key.split('.');
    const value = valueAt(path, result.data);
    if (value !== undefined) values.set(key, { value, line: file.locate(path, 'name').line });
  }
  return values;
}

/** The key that a path belongs to: `racks[1]` to `racks`. */
function keyOf(path: readonly PropertyKey[]): ConfigKey | null {
  const [first, second] = path.map(String);
  return CONFIG_KEYS.find(key => key === first || key === `${first ?? ''}.${second ?? ''}`) ?? null;
}

function wrongValue(
  key: ConfigKey,
  issue: { readonly message: string },
  data: unknown,
  path: readonly PropertyKey[],
): string {
  const own = key.split('.');
  return issueMessage(key, issue, valueAt(own, data), path.slice(own.length));
}

function unknownKey(path: readonly PropertyKey[]): string {
  const dotted = path.map(String).join('.');
  const unknown = `unknown key ${shown(dotted)}`;
  if (/token$/i.test(dotted)) {
    return `${unknown}: the token itself is never kept here; name a file in \`cloud.tokenFile\`, or set PARTICLE_ACCESS_TOKEN`;
  }
  const last = String(path.at(-1));
  const near =
    nearest(dotted, [...CONFIG_KEYS, ...SECTIONS]) ??
    CONFIG_KEYS.find(key => nearest(last, [key.split('.').at(-1) ?? '']) !== null);
  return near === undefined ? unknown : `${unknown}: did you mean \`${near}\`?`;
}

function noMap(path: readonly PropertyKey[], data: unknown): string {
  const section = path.map(String).join('.');
  const name = section === '' ? 'the configuration' : `\`${section}\``;
  const inside = CONFIG_KEYS.filter(key => key.startsWith(`${section}.`)).map(key => key.slice(section.length + 1));
  const keys = section === '' ? 'keys and values' : `keys (${inside.join(', ')})`;
  return `${name} must be a map of ${keys}, is ${shown(valueAt(path, data))}`;
}
