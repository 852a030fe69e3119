import { Fault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import type { ConfigKey } from './keys.ts';

/** Something wrong with the configuration. */
export interface ConfigProblem {
  /** `config.yaml:3:9`, the name of a variable, or a flag. */
  readonly where: string;
  /** Dotted; null where no key is concerned (the file is no YAML). */
  readonly key: ConfigKey | null;
  readonly message: string;
}

const MAX_PRINTED = 50;
const MAX_SHOWN_CHARS = 40;

/** CONFIG_INVALID, with every problem of file, environment and flags; the message has a line for each. */
export class ConfigFault extends Fault {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.slice(0, MAX_PRINTED).map(problem => `${problem.where}: ${problem.message}`);
    if (problems.length > lines.length) lines.push(`and ${problems.length - lines.length} more`);
    const message =
      problems.length === 1
        ? lines.join()
        : [`${problems.length} problems in the configuration`, ...lines].join('\n  ');
    super('CONFIG_INVALID', message, { facts: { problems: problems.length } });
    this.name = 'ConfigFault';
    this.problems = problems;
  }
}

/** A value for a message: short, on one line, and safe for a terminal. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value !== 'string') return `a ${typeof value}`;
  const chars = Array.from(value.slice(0, MAX_SHOWN_CHARS * 2));
  return `"${printable(chars.slice(0, MAX_SHOWN_CHARS).join(''), Infinity)}${chars.length > MAX_SHOWN_CHARS ? '…' : ''}"`;
}
