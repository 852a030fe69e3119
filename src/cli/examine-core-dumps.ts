import { readFileSync } from 'node:fs';
import type { Check } from './examine.ts';

const CURE = `a crash would write key bytes to disk: \`ulimit -c 0\` before the program, or LimitCORE=0 in its systemd unit`;
const PIPE_CURE = `${CURE}; a handler that core dumps are piped to is given them in spite of the limit: switch it off for this user`;

/**
 * Whether a crash of the program would leave its memory, keys included, on disk. Node can't switch that off by itself.
 * A handler behind a pipe is not held by the limit (core(5)).
 */
export function coreDumpCheck(
  limits: () => string = () => readFileSync('/proc/self/limits', 'utf8'),
  pattern: () => string = () => readFileSync('/proc/sys/kernel/core_pattern', 'utf8'),
): Check {
  const name = 'core dumps';
  try {
    const soft = /^Max core file size\s+(\S+)/m.exec(limits())?.[1] ?? 'unknown';
    const piped = pattern().startsWith('|');
    if (soft === '0' && !piped) return { name, state: 'ok', found: 'switched off', cure: null };
    const found = piped ? 'piped to a handler' : `allowed up to ${soft === 'unlimited' ? 'any size' : `${soft} bytes`}`;
    return { name, state: 'note', found, cure: piped ? PIPE_CURE : CURE };
  } catch {
    return { name, state: 'note', found: 'this system does not say whether there are any', cure: CURE };
  }
}
