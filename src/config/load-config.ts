import { dirname, isAbsolute, relative, resolve } from 'node:path';
import { Fault } from '../core/errors.ts';
import { FAIL_VARIABLE } from '../core/fail-points.ts';
import { printable } from '../core/printable.ts';
import { makeConfig, type Config, type Environment, type Origin } from './config.ts';
import { fileValues, type FileValue } from './file-values.ts';
import { issueMessage } from './issues.ts';
import {
  CONFIG_KEYS,
  ENV_PREFIX,
  KEYS,
  envName,
  flagName,
  type ConfigKey,
  type FlatValues,
  type KeySpec,
} from './keys.ts';
import { nearest } from './nearest.ts';
import { ConfigFault, type ConfigProblem } from './problems.ts';
import { fromText } from './schemas.ts';
import { parseYaml, readText, yamlProblems } from './yaml-file.ts';

/** What was given on the command line; undefined: not given. `config` names the file. */
export type Flags = { readonly [K in ConfigKey]?: unknown } & { readonly config?: string | undefined };

export interface ConfigInput {
  readonly flags: Flags;
  readonly env: Environment;
  /** Relative paths of flags and of the environment count from here. */
  readonly cwd: string;
}

const CONFIG_VARIABLE = `${ENV_PREFIX}CONFIG`;
const DEFAULT_FILE = 'config.yaml';

/**
 * Flags before environment before file before default. Everything that is set must be valid, also where something else
 * takes its place; an empty variable counts as not set.
 * @throws ConfigFault (CONFIG_INVALID) with every problem at once; Fault CONFIG_UNREADABLE
 */
export function loadConfig({ flags, env, cwd }: ConfigInput): Config {
  const problems: ConfigProblem[] = [];
  const file = readFile(flags, env, cwd, problems);
  const flat: Partial<Record<ConfigKey, unknown>> = {};
  const origins = new Map<ConfigKey, Origin>();

  for (const key of CONFIG_KEYS) {
    const spec: KeySpec = KEYS[key];
    const set = (value: unknown, base: string, origin: Origin): void => {
      flat[key] = typeof value === 'string' && spec.isPath?.(value) ? resolve(base, value) : value;
      origins.set(key, origin);
    };
    set(spec.fallback, cwd, { source: 'default', description: 'default' });
    const inFile = file.values.get(key);
    if (inFile) set(inFile.value, file.folder, { source: 'file', description: `${file.display}:${inFile.line}` });
    if (spec.fileOnly) continue;
    for (const source of ['environment', 'flag'] as const) {
      const description = source === 'flag' ? flagName(key) : envName(key);
      const given = source === 'flag' ? flags[key] : env[envName(key)]?.trim() || undefined;
      if (given === undefined) continue;
      const value = typeof given === 'string' ? fromText(spec.reading, given) : given;
      const result = spec.schema.safeParse(value);
      if (result.success) set(result.data, cwd, { source, description });
      for (const issue of result.error?.issues ?? []) {
        problems.push({ where: description, key, message: issueMessage(key, issue, value, issue.path) });
      }
    }
  }
  if (problems.length > 0) throw new ConfigFault(withoutDoubles(problems));
  // Each value is its schema's output, or the fallback, which the table's types check.
  return makeConfig(flat as FlatValues, origins, file.path, unknownVariables(env));
}

interface FileResult {
  readonly path: string | null;
  readonly display: string;
  readonly folder: string;
  readonly values: Map<ConfigKey, FileValue>;
}

function readFile(flags: Flags, env: Environment, cwd: string, problems: ConfigProblem[]): FileResult {
  const given: unknown = flags.config; // a flag that is given twice is a list
  if (given !== undefined && typeof given !== 'string') {
    throw new ConfigFault([{ where: '--config', key: null, message: 'is given more than once' }]);
  }
  const named = given ?? (env[CONFIG_VARIABLE]?.trim() || undefined);
  const path = resolve(cwd, named ?? DEFAULT_FILE);
  const near = relative(cwd, path);
  const outside = near.startsWith('..') || isAbsolute(near) || near === '';
  const display = printable(outside ? path : near, 4096);
  const text = readText(path, display);
  if (text === null) {
    if (named === undefined) return { path: null, display, folder: cwd, values: new Map() };
    throw new Fault('CONFIG_UNREADABLE', `${display}: the configuration can't be read: there is no such file`, {
      facts: { path: display },
    });
  }
  const yaml = parseYaml(text);
  problems.push(...yamlProblems(yaml, display));
  const values = fileValues(yaml, display, problems);
  return { path, display, folder: dirname(path), values };
}

/** A union of zod can find one thing wrong in two ways. */
function withoutDoubles(problems: readonly ConfigProblem[]): ConfigProblem[] {
  return [...new Map(problems.map(problem => [`${problem.where}\0${problem.message}`, problem])).values()];
}

/** A slip in the name of a variable would pass in silence: told, but other programs may use the prefix too. */
function unknownVariables(env: Environment): string[] {
  const settable = CONFIG_KEYS.filter(key => !(KEYS[key] as KeySpec).fileOnly).map(envName);
  const known = [...settable, CONFIG_VARIABLE, FAIL_VARIABLE];
  return Object.keys(env)
    .filter(name => name.startsWith(ENV_PREFIX) && !known.includes(name))
    .sort()
    .map(name => `${printable(name)} is unknown and has no effect${advice(name, known)}`);
}

function advice(name: string, known: readonly string[]): string {
  const key = CONFIG_KEYS.find(candidate => (KEYS[candidate] as KeySpec).fileOnly && envName(candidate) === name);
  if (key) return `: \`${key}\` can be set in the file alone`;
  if (/TOKEN$/.test(name)) return ': the token comes from PARTICLE_ACCESS_TOKEN';
  const near = nearest(
    name.slice(ENV_PREFIX.length),
    known.map(candidate => candidate.slice(ENV_PREFIX.length)),
  );
  return near === null ? '' : `: did you mean ${ENV_PREFIX}${near}?`;
}
