const MOST_LEVELS = 50;
const MOST_INDENT = 1000;

/**
 * Whether a text of YAML is nested deeper than anything of ours could be. Asked before it is parsed: a parser that goes
 * down thousands of levels takes the process with it. Told by the look of each line, so quoted text may count too.
 */
export function isNestedTooDeep(text: string): boolean {
  let open = 0;
  for (const line of text.split('\n')) {
    const indent = /^ */.exec(line)?.[0].length ?? 0;
    const marks = line.match(/(?:^|\s)[-?:](?=\s|$)/g)?.length ?? 0;
    for (const char of line) {
      if (char === '[' || char === '{') open += 1;
      else if ((char === ']' || char === '}') && open > 0) open -= 1;
      if (open > MOST_LEVELS) return true;
    }
    if (marks > MOST_LEVELS || indent > MOST_INDENT) return true;
  }
  return false;
}
