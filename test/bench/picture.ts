import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { CLI, projectFile } from '../support/project.ts';

/* npm run picture: the README's picture, drawn from a real run of the demo. */

const COLOURS: readonly (readonly [RegExp, string])[] = [
  [/breathe cyan/, '#39c5cf'],
  [/red burst/, '#ff7b72'],
  [/orange burst/, '#ffa657'],
  [/blinking yellow/, '#e3b341'],
  [/^pass/, '#7ee787'],
];
const PLAIN = '#c9d1d9';
const LINE_PX = 18;
const CHAR_PX = 7.8;
const MARGIN_PX = 16;
/** Lines of devices that passed, of which the first and the last ones are enough. */
const SHOWN = 4;

const env = { ...process.env, NO_COLOR: '1' };
const ran = spawnSync(process.execPath, [CLI, 'demo'], { encoding: 'utf8', env });
if (ran.status !== 0) throw new Error(`the demo ended with ${String(ran.status)}: ${ran.stderr}`);
const lines = ran.stdout.replace(/\/tmp\/[\w./-]+/g, 'photon-fleet.db').split('\n');
const next = lines.findIndex(line => line.startsWith('next:'));
const passed = lines.flatMap((line, index) => (line.startsWith('pass') ? [index] : []));
const dropped = new Set(passed.slice(SHOWN, -SHOWN));
const kept = lines.flatMap((line, index) => {
  if (index === next || index === next + 1) return [];
  if (!dropped.has(index)) return [line];
  return index === passed[SHOWN] ? [`      … ${dropped.size} more`] : [];
});
const text = ['$ npm run demo', '', ...kept]
  .join('\n')
  .trimEnd()
  .replace(/\n{3,}/g, '\n\n')
  .split('\n');

const width = Math.ceil(Math.max(...text.map(line => line.length)) * CHAR_PX + 2 * MARGIN_PX);
const height = text.length * LINE_PX + 2 * MARGIN_PX;
const escaped = (line: string): string =>
  line.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll(' ', '\u00a0');
const rows = text.map((line, index) => {
  const colour = COLOURS.find(([what]) => what.test(line))?.[1] ?? PLAIN;
  return `<text x="${MARGIN_PX}" y="${MARGIN_PX + (index + 1) * LINE_PX - 5}" fill="${colour}">${escaped(line)}</text>`;
});
const folder = projectFile('test/bench/results');
mkdirSync(folder, { recursive: true });
writeFileSync(
  `${folder}/demo.svg`,
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    '<title>A rack of which a third is ruined, repaired until all devices breathe cyan</title>',
    `<rect width="100%" height="100%" rx="8" fill="#0d1117"/>`,
    `<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">`,
    ...rows,
    '</g>',
    '</svg>',
    '',
  ].join('\n'),
);
process.stdout.write('written to test/bench/results/demo.svg\n');
