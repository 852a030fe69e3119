/** `--max-fail`: as many devices, or as large a part of the rows, may fail before no more are begun. */
export type MaxFail = { readonly count: number } | { readonly percent: number };

/** Whether the rule is broken: *more* than the limit have failed. */
export function tooManyFailed(rule: MaxFail | null, failed: number, rows: number): boolean {
  if (rule === null) return false;
  const limit = 'count' in rule ? rule.count : (rule.percent / 100) * rows;
  return failed > limit;
}
