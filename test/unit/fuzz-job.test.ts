import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseServerHost } from '#src/core/hosts.ts';
import { parseJob, type Job } from '#src/job/job.ts';
import type { ServerSettings } from '#src/job/server-change.ts';
import { STEPS } from '#src/job/steps.ts';
import {
  endOf,
  expectCode,
  fuzz,
  mutated,
  PRINTABLE,
  textOf,
  written,
  YAML_TOKENS,
  yamlBombs,
  yamlValue,
} from '../support/fuzz.ts';
import { KEEP, rekeyText } from '../support/job-text.ts';

const JOBS = new URL('../../jobs/', import.meta.url);
const TEXTS = [...readdirSync(JOBS).map(name => readFileSync(new URL(name, JOBS), 'utf8')), rekeyText()];
const STEP_NAMES = Object.keys(STEPS);
const TOKENS = [
  ...YAML_TOKENS,
  ...STEP_NAMES,
  ...STEP_NAMES.map(name => `  - ${name}\n`),
  'name: x\n',
  'description: y\n',
  'steps:\n',
  'server-key: ',
  'server-host: ',
  'server-port: ',
  'keep',
  'config',
  'builtin',
  '65535',
  'example.org',
];

const settings: fc.Arbitrary<ServerSettings> = fc.constantFrom(
  KEEP,
  { key: 'builtin', host: null, port: null },
  { key: 'keep', host: 'example.org', port: 5683 },
);

function check(text: string, server: ServerSettings): void {
  const end = endOf(() => parseJob(text, '/jobs/x.yaml', server));
  if ('value' in end) {
    expectSafe(end.value);
    return;
  }
  expectCode(end.fault, 'JOB_INVALID', 'SERVER_KEY_INVALID', 'FIRMWARE_INVALID', 'CONFIG_INVALID');
  if (end.fault.code === 'JOB_INVALID') expect(end.fault.message).toMatch(PRINTABLE);
}

/** What is taken may be done to a device. */
function expectSafe({ name, description, steps, plan }: Job): void {
  expect(name).toMatch(/^[a-z0-9][a-z0-9-]{0,62}$/);
  expect(description).toBeTypeOf('string');
  const names = steps.map(step => step.name);
  expect(names).toEqual(STEP_NAMES.filter(each => names.some(own => own === each)));
  const has = (step: keyof typeof STEPS): boolean => names.includes(step);
  expect(plan).toMatchObject({
    newKey: has('new-key'),
    writes: has('write'),
    sends: has('send'),
    leaves: has('leave'),
  });
  if (has('write')) expect(names).toEqual(expect.arrayContaining(['identify', 'preflight', 'backup', 'verify']));
  if (has('new-key')) expect(names).toEqual(expect.arrayContaining(['write', 'send']));
  const { key, host, port } = plan.server;
  if (typeof key === 'string') expect(['keep', 'builtin']).toContain(key);
  else expect(key).toHaveLength(294);
  if (host !== null) expect(parseServerHost(host)).toBe(host);
  if (port !== null) expect(port >= 1 && port <= 65_534).toBe(true);
}

test('a job of the words and marks of YAML is taken in a safe order, or refused', async () => {
  const inputs = fc.tuple(fc.boolean(), textOf([...TOKENS, 'firmware', 'user-part'], 50), settings);
  await fuzz(inputs, 1500, ([headed, text, server]) => check(headed ? `name: x\nsteps:\n  - ${text}` : text, server));
});

test('a good job with some bytes changed is taken in a safe order, or refused', async () => {
  const changed = fc.constantFrom(...TEXTS).chain(text => mutated(Buffer.from(text), TOKENS));
  await fuzz(fc.tuple(changed, settings), 1500, ([bytes, server]) => check(bytes.toString('utf8'), server));
});

test('a job whose values are anything that YAML can write is taken in a safe order, or refused', async () => {
  const field = fc.constantFrom('name', 'description', 'steps', 'extra');
  const jobs = fc.oneof(
    yamlValue.map(options => rekeyText({ write: `write: ${options}` })),
    yamlValue.map(item => rekeyText({ verify: item })),
    fc.tuple(fc.array(fc.tuple(field, yamlValue), { maxLength: 5 }), fc.boolean()).map(([fields, whole]) => {
      const text = fields.map(([name, value]) => `${name}: ${value}\n`).join('');
      return whole ? rekeyText() + text : text;
    }),
  );
  await fuzz(fc.tuple(jobs, settings), 1500, ([text, server]) => check(text, server));
});

test('a job that is nested thousands of times over, or repeats itself without end, is refused in short time', async () => {
  const place = fc.constantFrom(
    (text: string) => text,
    (text: string) => `name: x\nsteps: ${text}`,
    (text: string) => rekeyText({ write: `write: ${text}` }),
  );
  await fuzz(fc.tuple(yamlBombs, place), 60, ([bomb, put]) => check(put(written(bomb)), KEEP));
});
