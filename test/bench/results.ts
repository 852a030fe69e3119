import type { Figure, Row } from './figures.ts';

/** What was measured together. */
export interface Group {
  readonly at: string;
  readonly commit: string;
  readonly machine: string;
  readonly versions: string;
  readonly rows: readonly {
    readonly name: string;
    readonly what: string;
    readonly figure: Figure;
    readonly goal?: string;
    readonly met?: boolean;
  }[];
}

export interface Results {
  readonly groups: Readonly<Record<string, Group>>;
}

export function printable({ name, what, figure, goal }: Row): string {
  const { min, median, max, n } = figure;
  const aim = goal === null ? '' : `   goal ${goal.text}${goal.isMet(median) ? '' : ': MISSED'}`;
  return `${name.padEnd(3)}${what}: ${short(median)} (${short(min)} to ${short(max)}, n = ${n})${aim}`;
}

/** One table, a row a figure, in the order of the groups. */
export function toMarkdown({ groups }: Results, order: readonly string[]): string {
  const lines = [
    '# What was measured',
    '',
    'Made by `npm run bench`. Ratios of whole processes, measured in turn on one machine; the medians are what to quote.',
    '',
    '| | measure | min | median | max | n | goal | |',
    '|---|---|---|---|---|---|---|---|',
  ];
  const runs = new Map<string, string[]>();
  for (const name of order) {
    const group = groups[name];
    if (!group) continue;
    for (const { name: letter, what, figure, goal, met } of group.rows) {
      const { min, median, max, n } = figure;
      const verdict = met === undefined ? '' : met ? 'met' : '**missed**';
      const cells = [letter, what, short(min), short(median), short(max), n, goal ?? '', verdict];
      lines.push(`| ${cells.join(' | ')} |`);
    }
    const where = `${group.machine}; ${group.versions}; commit ${group.commit}`;
    runs.set(where, [...(runs.get(where) ?? []), `${name} (${group.at.slice(0, 16)}Z)`]);
  }
  lines.push('');
  for (const [where, names] of runs) lines.push(`- ${names.join(', ')}: ${where}`);
  return `${lines.join('\n')}\n`;
}

function short(value: number): string {
  if (!Number.isFinite(value)) return '–';
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
