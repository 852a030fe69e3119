import { KEYS, type ConfigKey, type KeySpec } from './keys.ts';
import { shown } from './problems.ts';

/** What stands at `path` in plain data. */
export function valueAt(path: readonly PropertyKey[], data: unknown): unknown {
  let value = data;
  for (const segment of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, segment)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[segment];
  }
  return value;
}

/**
 * What is wrong with a key's value, in the words of this program.
 * @param issue one of zod's, of which only the message is looked at
 * @param inner where in the value: empty for the value itself, `[1]` for the second item of a list
 */
export function issueMessage(
  key: ConfigKey,
  issue: { readonly message: string },
  value: unknown,
  inner: readonly PropertyKey[],
): string {
  const spec: KeySpec = KEYS[key];
  const [item] = inner;
  if (issue.message === 'name') return `\`${key}\`: ${shown(String(item))} can't be the name of a socket`;
  if (issue.message === 'doubled') return `\`${key}\`: the socket of ${shown(String(item))} has another name already`;
  const must = `\`${key}\` must be ${spec.expects}`;
  if (spec.unshown) return must;
  const found = shown(valueAt(inner, value));
  if (item === undefined) return `${must}, is ${found}`;
  return `${must}; ${typeof item === 'number' ? `item ${item + 1}` : shown(item)} is ${found}`;
}
