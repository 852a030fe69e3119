/** Several values of one measure, as they are quoted. */
export interface Figure {
  readonly min: number;
  readonly median: number;
  readonly max: number;
  readonly n: number;
}

export function figureOf(values: readonly number[]): Figure {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const at = (index: number): number => sorted[index] ?? NaN;
  return {
    min: at(0),
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    max: at(sorted.length - 1),
    n: sorted.length,
  };
}

/** One row of the table: a measure beside its goal. */
export interface Row {
  /** As the goals are named: a, b, … */
  readonly name: string;
  readonly what: string;
  readonly figure: Figure;
  readonly goal: { readonly text: string; readonly isMet: (median: number) => boolean } | null;
}

export const atLeast = (bound: number): Row['goal'] => ({ text: `≥ ${bound}`, isMet: median => median >= bound });
export const atMost = (bound: number): Row['goal'] => ({ text: `≤ ${bound}`, isMet: median => median <= bound });
export const under = (bound: number): Row['goal'] => ({ text: `< ${bound}`, isMet: median => median < bound });
export const exactly = (value: number): Row['goal'] => ({ text: `${value}`, isMet: median => median === value });
