import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { projectFile } from '../support/project.ts';
import { benchGuest } from './guest-rounds.ts';
import type { Row } from './figures.ts';
import { benchMemory } from './memory.ts';
import { benchRacks } from './racks.ts';
import { benchReplay } from './replay.ts';
import { benchRequests } from './requests.ts';
import { printable, toMarkdown } from './results.ts';
import type { Group, Results } from './results.ts';
import { benchScale } from './scale.ts';
import { benchSmallParts } from './small-parts.ts';
import { benchStart } from './start.ts';

/*
 * npm run bench [-- [--rounds N] GROUP…]: measures, prints a table of ratios and puts it into test/bench/results. Groups
 * that are not asked for keep the figures that they had.
 */

const GROUPS: Record<string, (rounds: number) => Promise<readonly Row[]>> = {
  guest: rounds => benchGuest(rounds),
  racks: rounds => benchRacks(rounds, () => true),
  requests: () => benchRequests(),
  replay: rounds => benchReplay(rounds, 10_000),
  start: rounds => benchStart(rounds),
  memory: rounds => benchMemory(rounds, 100_000),
  parts: () => benchSmallParts(),
  scale: () => benchScale(),
};

const { values, positionals } = parseArgs({
  options: { rounds: { type: 'string', default: '3' } },
  allowPositionals: true,
});
const unknown = positionals.filter(name => !Object.hasOwn(GROUPS, name));
const rounds = Number(values.rounds);
if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write(`npm run bench [-- [--rounds N] GROUP…]; groups: ${Object.keys(GROUPS).join(', ')}\n`);
  process.exit(2);
}

// Node reads such certificates at every start, of `node -e 0` too.
delete process.env['NODE_EXTRA_CA_CERTS'];

const folder = projectFile('test/bench/results');
mkdirSync(folder, { recursive: true });
const file = `${folder}/results.json`;
const groups: Record<string, Group> = before();
for (const [name, bench] of Object.entries(GROUPS)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  process.stdout.write(`\n# ${name}\n`);
  const rows = await bench(rounds);
  for (const row of rows) process.stdout.write(`${printable(row)}\n`);
  groups[name] = { ...around(), rows: rows.map(({ goal, ...row }) => ({ ...row, ...goalOf(goal, row) })) };
}
const results: Results = { groups };
writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
writeFileSync(`${folder}/results.md`, toMarkdown(results, Object.keys(GROUPS)));
process.stdout.write(`\nwritten to test/bench/results\n`);

function before(): Record<string, Group> {
  try {
    return (JSON.parse(readFileSync(file, 'utf8')) as Results).groups;
  } catch {
    return {};
  }
}

function goalOf(goal: Row['goal'], { figure }: Pick<Row, 'figure'>): { goal?: string; met?: boolean } {
  return goal === null ? {} : { goal: goal.text, met: goal.isMet(figure.median) };
}

/** Where and of what a group was measured. */
function around(): Omit<Group, 'rows'> {
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const dirty = git('status', '--porcelain', '--', 'src', 'test', 'migrations', 'package-lock.json') !== '';
  return {
    at: new Date().toISOString(),
    commit: git('rev-parse', '--short=12', 'HEAD') + (dirty ? ' and what was not committed' : ''),
    machine: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`,
    versions: `Node ${process.versions.node}, V8 ${process.versions.v8}`,
  };
}
