import { describe, expect, test } from 'vitest';
import { jobText, readJob, refusalOf, rekeyText } from '../support/job-text.ts';

/** Every refusal says where: file, line, column. */
function placeOf(text: string): string {
  const place = /^\/jobs\/x\.yaml:(\d+:\d+): /.exec(refusalOf(text))?.[1];
  if (place === undefined) throw new Error(`no place in: ${refusalOf(text)}`);
  return place;
}

describe('a job file is refused, with its place, where', () => {
  test('a step is not known', () => {
    expect(refusalOf(jobText(['identify', 'fly']))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:5:5: unknown step \`fly\`; known: identify, firmware, preflight, backup, new-key, claim-code, write, verify, send, prove, add-to-product, name, confirm-online, leave"`,
    );
    expect(placeOf(jobText(['Identify']))).toBe('4:5');
    expect(placeOf(jobText(['identify', 'constructor: {}']))).toBe('5:5');
  });

  test('an option is not known', () => {
    expect(refusalOf(rekeyText({ write: 'write: { server-key: keep, serverkey: x }' }))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:8:32: step \`write\`, option \`serverkey\`: unknown option"`,
    );
    expect(refusalOf(rekeyText({ backup: 'backup: { fast: true }' }))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:6:15: step \`backup\`, option \`fast\`: unknown option"`,
    );
  });

  test.each([
    ['{ server-key: 5 }', 'server-key'],
    ['{ server-key: "" }', 'server-key'],
    ['{ server-key: [builtin] }', 'server-key'],
    ['{ server-key: null }', 'server-key'],
    ['{ server-port: "5683" }', 'server-port'],
    ['{ server-port: 0 }', 'server-port'],
    ['{ server-port: 65535 }', 'server-port'],
    ['{ server-port: 5683.5 }', 'server-port'],
    ['{ server-host: 5 }', 'server-host'],
    ['{ server-host: "" }', 'server-host'],
    ['{ server-host: "a b" }', 'server-host'],
    ['{ server-host: 10.0.0.300 }', 'server-host'],
    ['{ server-host: "::1" }', 'server-host'],
    [`{ server-host: ${'a'.repeat(64)} }`, 'server-host'],
  ])('an option has a wrong value: %s', (options, option) => {
    const refusal = refusalOf(rekeyText({ write: `write: ${options}` }));
    expect(refusal).toContain(`/jobs/x.yaml:8:14: step \`write\`, option \`${option}\`: `);
  });

  test.each(['builtin', '5', 'true', '[server-key, builtin]', '*elsewhere', '"server-key: builtin"'])(
    'the options of a step are no map: %s',
    options => {
      expect(refusalOf(rekeyText({ write: `write: ${options}` }))).toBe(
        '/jobs/x.yaml:8:12: the options of `write` are a map',
      );
    },
  );

  test('a step stands before one that it has to follow', () => {
    expect(refusalOf(rekeyText({ backup: 'write', write: 'backup' }))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:7:5: step \`new-key\` must stand before \`write\` (and 1 more: /jobs/x.yaml:8:5: step \`backup\` must stand before \`new-key\`)"`,
    );
    expect(placeOf(jobText(['preflight', 'identify']))).toBe('5:5');
    expect(placeOf(jobText(['leave', 'identify']))).toBe('5:5');
  });

  test('a step stands twice', () => {
    expect(refusalOf(jobText(['identify', 'identify']))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:5:5: step \`identify\` stands twice"`,
    );
    expect(placeOf(jobText(['identify', 'preflight', 'identify']))).toBe('6:5');
    expect(placeOf(rekeyText({ leave: 'leave\n  - leave' }))).toBe('12:5');
  });

  test.each([
    ['backup', 'write'],
    ['verify', 'write'],
    ['write', 'new-key'],
    ['send', 'new-key'],
    ['preflight', 'backup'],
    ['identify', 'preflight'],
  ] as const)('the step `%s` is left out, which `%s` needs', (missing, needing) => {
    expect(refusalOf(rekeyText({ [missing]: null }))).toContain(`: step \`${needing}\` needs the step \`${missing}\``);
  });

  test('a step is something else than a name with its options', () => {
    for (const step of ['', '5', 'null', '[identify]', '{ identify: {}, preflight: {} }', '? [identify]\n    : {}']) {
      expect(refusalOf(jobText([step]))).toContain('a step is a name, or a name with its options');
    }
  });

  test('a key is not known, stands twice, or holds something else than it should', () => {
    const steps = 'steps: [identify]\n';
    expect(refusalOf(`name: x\n${steps}retries: 3\n`)).toMatchInlineSnapshot(
      `"/jobs/x.yaml:3:1: unknown key \`retries\`; a job has name, description and steps"`,
    );
    expect(refusalOf(`name: x\nname: y\n${steps}`)).toBe('/jobs/x.yaml:2:1: Map keys must be unique');
    expect(refusalOf(`name: [x]\n${steps}`)).toBe('/jobs/x.yaml:1:7: name: lower-case letters, digits and dashes');
    expect(placeOf(`name: x\ndescription: [y]\n${steps}`)).toBe('2:14');
    expect(placeOf(`name: x\nsteps: identify\n`)).toBe('2:8');
    expect(placeOf(`name: x\nsteps: { identify: {} }\n`)).toBe('2:8');
    expect(placeOf(`name: x\nsteps: []\n`)).toBe('2:8');
    expect(placeOf(`name: x\n`)).toBe('1:1');
  });

  test.each(['', 'X', '-x', 'a b', '../x', 'x'.repeat(64)])('its name is `%s`', name => {
    expect(placeOf(`name: "${name}"\nsteps: [identify]\n`)).toBe('1:7');
  });

  test('it has no name', () => {
    expect(refusalOf('steps: [identify]\n')).toContain('name: lower-case letters, digits and dashes');
  });

  test.each(['', '# nothing\n', 'rekey', '- identify', '42', 'null'])('it is no map: %j', text => {
    expect(refusalOf(text)).toContain(': a job is a map with name, description and steps');
    placeOf(text);
  });

  test.each([
    ['a tab', 'name: x\nsteps:\n\t- identify\n', '3:1'],
    ['an open quote', 'name: "x\nsteps: [identify]\n', '3:1'],
    ['an open bracket', 'name: x\nsteps: [identify\n', '3:1'],
    ['two documents', 'name: x\nsteps: [identify]\n---\nname: y\n', '3:1'],
    ['a map in a map in one line', 'name: x: y\n', '1:7'],
  ])('it is no YAML: %s', (_, text, place) => {
    expect(placeOf(text)).toBe(place);
  });

  test('it says more than one thing that is wrong, and all of them are told', () => {
    expect(refusalOf('name: X\nfoo: 1\nsteps: [fly, { write: { a: 1 } }]\n')).toMatchInlineSnapshot(
      `"/jobs/x.yaml:2:1: unknown key \`foo\`; a job has name, description and steps (and 3 more: /jobs/x.yaml:1:7: name: lower-case letters, digits and dashes; /jobs/x.yaml:3:9: unknown step \`fly\`; known: identify, firmware, preflight, backup, new-key, claim-code, write, verify, send, prove, add-to-product, name, confirm-online, leave; /jobs/x.yaml:3:25: step \`write\`, option \`a\`: unknown option)"`,
    );
  });
});

describe('aliases in a job file', () => {
  test('are no steps, no options and no values', () => {
    expect(placeOf('name: x\nsteps: &a [identify, *a]\n')).toBe('2:22');
    expect(placeOf('name: &n x\ndescription: *n\nsteps: [identify]\n')).toBe('2:14');
    expect(placeOf('a: &s [identify]\nname: x\nsteps: *s\n')).toBe('1:1');
    const text = rekeyText({ write: 'write: { server-key: &k builtin, server-host: *k }' });
    expect(refusalOf(text)).toContain('option `server-host`: Invalid input: expected string');
    expect(refusalOf('name: x\nsteps: [identify]\n<<: { name: y }\n')).toContain('unknown key `<<`');
  });

  test('that would grow without end are never followed', () => {
    const levels = Array.from({ length: 30 }, (_, n) => `l${n + 1}: &l${n + 1} [*l${n}, *l${n}, *l${n}, *l${n}]\n`);
    expect(placeOf(`l0: &l0 [x]\n${levels.join('')}name: x\nsteps: *l30\n`)).toBe('1:1');
    const inOptions = levels.join('').replaceAll('\n', ', ').slice(0, -2);
    expect(refusalOf(rekeyText({ write: `write: { l0: &l0 [x], ${inOptions}, server-key: *l30 }` }))).toContain(
      '/jobs/x.yaml:8:14: step `write`, option `l0`: unknown option',
    );
  });
});

test('a job of one step is a job', () => {
  expect(readJob(jobText(['identify'])).plan.writes).toBe(false);
});
