/**
 * How the configuration and jobs are parsed. The core schema: no sets, ordered maps, merge keys or times, of which nothing
 * here would be read. Not prettyErrors: those quote the line, and somebody may have put a token there.
 */
export const PLAIN_YAML = { prettyErrors: false, schema: 'core', merge: false, resolveKnownTags: false } as const;

const MOST_IN_FLOW = 20;
const MOST_IN_LINE = 20;
const MOST_INDENT = 100;

/**
 * Whether a text of YAML is nested deeper than anything of ours could be. Asked before it is parsed: a parser that goes
 * down hundreds of levels takes the process with it.
 * @param tokens of the lexer, which goes down nowhere and knows what is quoted
 */
export function isNestedTooDeep(tokens: Iterable<string>): boolean {
  let flow = 0;
  let marks = 0;
  let isLineStart = true;
  for (const token of tokens) {
    if (isLineStart && /^ +$/.test(token) && token.length > MOST_INDENT) return true;
    isLineStart = token.endsWith('\n') || token === '\u0002';
    if (isLineStart) marks = 0;
    if (token === '[' || token === '{') flow += 1;
    else if (token === ']' || token === '}') flow = Math.max(0, flow - 1);
    else if (flow === 0 && (token === '-' || token === '?' || token === ':')) marks += 1;
    if (flow > MOST_IN_FLOW || marks > MOST_IN_LINE) return true;
  }
  return false;
}
