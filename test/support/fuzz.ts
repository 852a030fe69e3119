import fc from 'fast-check';
import { expect, vi } from 'vitest';
import { Fault, type FaultCode } from '#src/core/errors.ts';
import { FAULTS } from '#src/core/fault-codes.ts';
import { setupPacket } from '#src/usb/setup-packet.ts';

/*
 * Bounded fuzzing: the same inputs each time, and no more than some seconds a property. FUZZ_SEED chooses other inputs
 * (a failure prints its seed), FUZZ_RUNS says how many, and takes the bound of time away:
 *
 *   FUZZ_SEED=$RANDOM FUZZ_RUNS=100000 npx vitest run --config test/vitest.config.ts fuzz-
 */

const SEED = wholeNumber('FUZZ_SEED') ?? 20140805;
const RUNS = wholeNumber('FUZZ_RUNS');
/** A property that has taken so long takes no further inputs. */
const BUDGET_MS = RUNS === null ? 1_500 : Infinity;
/** No input may take so long: a hundred times what the slowest does, on a machine that does other things as well. */
const MOST_MS = 5_000;

if (RUNS !== null) vi.setConfig({ testTimeout: 24 * 60 * 60_000 });

function wholeNumber(name: string): number | null {
  const text = process.env[name]?.trim() ?? '';
  if (text === '') return null;
  if (!Number.isSafeInteger(Number(text))) throw new Error(`${name} must be a whole number, is ${text}`);
  return Number(text);
}

/** What was thrown with nobody to catch it, which would have ended the process. */
const stray: unknown[] = [];
process.on('uncaughtException', thrown => stray.push(thrown));
process.on('unhandledRejection', thrown => stray.push(thrown));

/**
 * Runs `check` with `runs` inputs. It fails with the smallest input for which `check` throws, takes too long, never
 * ends, or leaves an error behind that nobody catches.
 */
export async function fuzz<T>(inputs: fc.Arbitrary<T>, runs: number, check: (input: T) => unknown): Promise<void> {
  const endAt = performance.now() + BUDGET_MS;
  const property = fc.asyncProperty(inputs, async input => {
    const begun = performance.now();
    if (begun > endAt) return;
    const work = check(input);
    if (work instanceof Promise) {
      await work;
      await new Promise(resolve => setImmediate(resolve)); // when a rejection that nobody handles is known as such
    }
    const took = performance.now() - begun;
    if (took > MOST_MS) throw new Error(`it took ${Math.round(took)} ms`);
    const [left] = stray.splice(0);
    if (left !== undefined) throw new Error('an error was left to nobody', { cause: left });
  });
  await fc.assert(property, {
    seed: SEED,
    numRuns: RUNS ?? runs,
    timeout: MOST_MS,
    // By then an input that was begun within the budget has ended, or has failed by its timeout.
    ...(RUNS === null && { interruptAfterTimeLimit: BUDGET_MS + MOST_MS + 500 }),
  });
}

export type Ending<T> = { readonly value: T } | { readonly fault: Fault };

/** What a parser makes of its input. Only a Fault is a way of saying no: anything else is thrown on. */
export function endOf<T>(act: () => T): Ending<T> {
  try {
    return { value: act() };
  } catch (thrown) {
    return { fault: faultOf(thrown) };
  }
}

/** The same for one that takes its time. */
export async function endOfAsync<T>(act: () => Promise<T>): Promise<Ending<T>> {
  try {
    return { value: await act() };
  } catch (thrown) {
    return { fault: faultOf(thrown) };
  }
}

function faultOf(thrown: unknown): Fault {
  if (!(thrown instanceof Fault) || thrown.code === 'BUG') throw thrown;
  expect(FAULTS).toHaveProperty([thrown.code]);
  expect(thrown.message).not.toBe('');
  return thrown;
}

/** For a parser whose every refusal has one of a few codes. */
export function expectCode(fault: Fault, ...codes: readonly FaultCode[]): void {
  if (!codes.includes(fault.code)) throw new Error(`${fault.code} is none of its codes`, { cause: fault });
}

/** On a terminal it moves no cursor, and hides nothing. */
export const PRINTABLE = /^[^\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]*$/u;

type Edit = (bytes: Buffer) => Buffer;

const LENGTHS = [0, 1, 2, 3, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xfe, 0xff];
const LONG = [0, 1, 0x7fff, 0xffff, 0x10000, 0x10001, 0x7fff_ffff, 0x8000_0000, 0xffff_ff00, 0xffff_ffff];

/**
 * `base` with some things done to it: bits flipped, bytes and 32-bit numbers set to what lengths go wrong with, pieces
 * cut out, doubled, swapped for noise or for one of `tokens`.
 */
export function mutated(base: Uint8Array, tokens: readonly (string | Uint8Array)[] = []): fc.Arbitrary<Buffer> {
  const at = fc.nat({ max: Math.max(0, base.length - 1) });
  const some = fc.oneof({ weight: 3, arbitrary: fc.nat({ max: 8 }) }, fc.nat({ max: Math.max(8, base.length) }));
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 12 }),
    ...(tokens.length > 0 ? [fc.constantFrom(...tokens.map(token => Buffer.from(token as string)))] : []),
  );
  const edit: fc.Arbitrary<Edit> = fc.oneof(
    fc.tuple(at, fc.nat({ max: 7 })).map(([where, bit]) => set(where, old => old ^ (1 << bit))),
    fc.tuple(at, fc.constantFrom(...LENGTHS)).map(([where, value]) => set(where, () => value)),
    fc.tuple(at, fc.nat({ max: 255 })).map(([where, value]) => set(where, () => value)),
    fc.tuple(at, fc.constantFrom(...LONG)).map(([where, value]) => setLong(where, value)),
    at.map<Edit>(length => bytes => bytes.subarray(0, length)),
    fc.tuple(at, some, piece).map(([where, count, put]) => splice(where, count, put)),
    fc.tuple(at, piece).map(([where, put]) => splice(where, 0, put)),
    fc.tuple(at, some).map<Edit>(([where, count]) => bytes => {
      const doubled = bytes.subarray(where, where + count);
      return Buffer.concat([bytes.subarray(0, where), doubled, doubled, bytes.subarray(where + count)]);
    }),
  );
  return fc
    .array(edit, { minLength: 1, maxLength: 6 })
    .map(edits => edits.reduce<Buffer>((bytes, change) => change(bytes), Buffer.from(base)));
}

function set(at: number, change: (old: number) => number): Edit {
  return bytes => {
    const copy = Buffer.from(bytes);
    if (at < copy.length) copy[at] = change(copy[at] ?? 0) & 0xff;
    return copy;
  };
}

function setLong(at: number, value: number): Edit {
  return bytes => {
    const copy = Buffer.from(bytes);
    if (at + 4 <= copy.length) copy.writeUInt32BE(value, at);
    return copy;
  };
}

function splice(at: number, count: number, put: Uint8Array): Edit {
  return bytes => Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + count)]);
}

/** Text of such words and characters. */
export function textOf(tokens: readonly string[], maxLength: number): fc.Arbitrary<string> {
  return fc
    .array(fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...tokens) }, fc.string({ maxLength: 3 })), {
      maxLength,
    })
    .map(parts => parts.join(''));
}

/** Words, each of them so many times: what is too long to be printed as it stands. */
export type Repeated = readonly (readonly [word: string, times: number])[];

export function written(parts: Repeated): string {
  return parts.map(([word, times]) => word.repeat(times)).join('');
}

/** Where to cut bytes into pieces: for each the part of what is left, of a thousand. */
export const cuts = fc.array(fc.integer({ min: 1, max: 1000 }), { maxLength: 8 });

export function inPieces(bytes: Buffer, parts: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let rest = bytes;
  for (const part of parts) {
    const length = Math.max(1, Math.floor((rest.length * part) / 1000));
    if (length >= rest.length) break;
    pieces.push(rest.subarray(0, length));
    rest = rest.subarray(length);
  }
  return [...pieces, rest];
}

/** What YAML is made of, and what its versions read differently. */
export const YAML_TOKENS = [
  '&a ',
  '*a',
  '&a [*a]',
  '<<: ',
  '!!merge ',
  '!!omap ',
  '!!set ',
  '!!binary aGk=',
  '!!timestamp 2001-01-01',
  '!!int ',
  '!!str ',
  '!own ',
  '!<tag:x,2000:y> ',
  '%YAML 1.1\n---\n',
  '%TAG ! tag:x,2000:\n---\n',
  '---\n',
  '...\n',
  '- ',
  '? ',
  ': ',
  ':',
  '{',
  '}',
  '[',
  ']',
  ',',
  '|\n',
  '>-\n',
  '"',
  "'",
  '\n',
  '\n  ',
  '\n      ',
  '\r',
  '\t',
  '#',
  '@',
  '`',
  '\\',
  '\ufeff',
  '\0',
  '\x1b',
  '\ud800',
  '😀',
  '~',
  'null',
  'true',
  'yes',
  '0x1f',
  '0o17',
  '017',
  '-0',
  '1e400',
  '.nan',
  '-.inf',
  '12:30:45',
  '9'.repeat(30),
  '__proto__',
  'constructor',
  'toString',
];

/** How often a thing may lie in another one. */
const MOST_NESTED = 4000;

const scalar = fc.oneof(
  fc.constantFrom(
    '~',
    'true',
    'no',
    '0x10',
    '.nan',
    '.inf',
    '-0',
    '1e21',
    '2001-01-01',
    '12:30',
    '*a',
    '""',
    "''",
    '<<',
    '!!merge <<',
  ),
  fc.constantFrom('!!binary aGk=', '!!timestamp 2001-01-01', '!!int "7"', '!own x', '&a x', '!!null ""', '!!float 1'),
  fc.integer().map(String),
  fc.string({ maxLength: 8 }).map(text => JSON.stringify(text)),
  fc.constantFrom(
    'server-key',
    'server-host',
    'server-port',
    'keep',
    'builtin',
    'config',
    'identify',
    'write',
    '__proto__',
  ),
);

/** A value in the flow style, tags, anchors and odd keys among it. */
export const yamlValue: fc.Arbitrary<string> = fc.letrec<{ value: string; list: string; map: string }>(tie => ({
  value: fc.oneof({ maxDepth: 4, depthSize: 'small' }, scalar, tie('list'), tie('map')),
  list: fc
    .tuple(fc.constantFrom('', '&a ', '!own ', '!!pairs '), fc.array(tie('value'), { maxLength: 4 }))
    .map(([tag, items]) => `${tag}[${items.join(', ')}]`),
  map: fc
    .tuple(
      fc.constantFrom('', '&a ', '!own ', '!!map '),
      fc.array(fc.tuple(tie('value'), tie('value')), { maxLength: 4 }),
    )
    .map(([tag, pairs]) => `${tag}{${pairs.map(([key, value]) => `? ${key} : ${value}`).join(', ')}}`),
})).value;

/** Little text that means very much. */
export const yamlBombs: fc.Arbitrary<Repeated> = fc.oneof(
  fc.tuple(
    fc.tuple(
      fc.constantFrom('[', '{a: ', '- ', '[[', '!!seq [', '&a [', '"', '*a ', '&a ', 'a: ', '? ', '{? '),
      fc.integer({ min: 1, max: MOST_NESTED }),
    ),
    fc.tuple(fc.constantFrom('\n', ']', '}', 'x'), fc.nat({ max: MOST_NESTED })),
  ),
  fc.tuple(fc.integer({ min: 2, max: 30 }), fc.integer({ min: 2, max: 12 })).map(laughs),
);

/** Each level names the one before it `width` times. */
function laughs([levels, width]: [number, number]): Repeated {
  const lists = Array.from({ length: levels }, (_, n) => [
    [`, &l${n} [ha`, 1] as const,
    [n === 0 ? ', ha' : `, *l${n - 1}`, width] as const,
    [']', 1] as const,
  ]);
  return [['[ha', 1], ...lists.flat(), [']', 1]];
}

/** GET_DESCRIPTOR of the device. */
export const GET_DESCRIPTOR = setupPacket(
  { requestType: 'standard', recipient: 'device', request: 6, value: 0x100, index: 0 },
  'in',
  18,
);
