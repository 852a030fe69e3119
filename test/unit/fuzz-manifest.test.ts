import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sha256Hex } from '#src/core/bytes.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import { parseUsbPath } from '#src/core/usb-path.ts';
import type { Manifest } from '#src/manifest/manifest.ts';
import { formatProblems, ManifestFault } from '#src/manifest/problems.ts';
import { readManifest } from '#src/manifest/read-manifest.ts';
import { endOfAsync, fuzz, mutated, PRINTABLE, textOf, written } from '../support/fuzz.ts';
import { tempFolder } from '../support/temp-folder.ts';

let folder: ReturnType<typeof tempFolder>;
beforeAll(() => {
  folder = tempFolder();
});
afterAll(() => folder[Symbol.dispose]());

const SOCKETS = { 'A-01': parseUsbPath('3-1.4')!, B: parseUsbPath('rack:3240/1-2')! };
const TOKENS = [
  'device_id',
  'device_id,name,port,product_id\n',
  'port',
  'PRODUCT_ID',
  '3b0047000347343138333738',
  '1E0028000347343138333738',
  '3.0E+23',
  '3-1.4',
  'A-01',
  '12345',
  '__proto__',
  '"',
  '""',
  ',',
  ',',
  ', ',
  ';',
  '\n',
  '\r\n',
  '\r',
  '\n\n',
  ' ',
  '\t',
  '\0',
  '\ufeff',
  '\ufffd',
  '\u00a0',
  '\u2028',
  '\u3000',
  '\u202e',
  '\u001b[31m',
  '😀',
  '\ud800',
];
const VALID =
  '\ufeffdevice_id,name,port,product_id,note\r\n' +
  '3b0047000347343138333738,"A, ""first""",3-1.4,12345,\r\n' +
  '1e0028000347343138333738,A-02,3-1.5,rack-monitor,"two\nlines"\r\n' +
  '000000000000000000000003, x ,,,é😀\r\n';

async function check(bytes: Uint8Array): Promise<void> {
  const file = join(folder.path, 'rack.csv');
  writeFileSync(file, bytes);
  const rows: unknown[] = [];
  const end = await endOfAsync(() => readManifest(file, { sockets: SOCKETS, onRow: row => rows.push(row) }));
  if ('fault' in end) {
    if (!(end.fault instanceof ManifestFault)) throw end.fault;
    expectPlaces(end.fault, Buffer.from(bytes).toString('utf8'));
    return;
  }
  expect(end.value.rows).toEqual(rows);
  expect(end.value).toMatchObject({ path: file, sha256: sha256Hex(bytes) });
  expectRows(end.value, Buffer.from(bytes).toString('utf8'));
}

/** Every problem can be found where it is said to be, and can be printed. */
function expectPlaces(fault: ManifestFault, text: string): void {
  const lines = text.split(/\r\n|\n|\r/);
  expect(fault.problems.length).toBeGreaterThan(0);
  expect(fault.total).toBe(fault.problems.length);
  let before = 0;
  for (const { line, column, message } of fault.problems) {
    if (line < before || line > lines.length || column < 1 || column > (lines[line - 1]?.length ?? 0) + 1) {
      throw new Error(`there is no ${line}:${column} in the file: ${message}`);
    }
    before = line;
    if (!PRINTABLE.test(message)) throw new Error(`it can't be printed: ${JSON.stringify(message)}`);
  }
  expect(formatProblems(fault).length).toBeGreaterThan(0);
}

function expectRows({ rows }: Manifest, text: string): void {
  expect(rows.length).toBeGreaterThan(0);
  expect(new Set(rows.map(({ deviceId }) => deviceId)).size).toBe(rows.length);
  const ports = rows.flatMap(({ port }) => port ?? []);
  expect(new Set(ports).size).toBe(ports.length);
  const columns = Object.keys(rows[0]!.extra);
  let before = 1;
  for (const { line, deviceId, port, name, productId, extra } of rows) {
    expect(line).toBeGreaterThan(before);
    before = line;
    expect(parseDeviceId(deviceId)).toBe(deviceId);
    expect(text.toLowerCase()).toContain(deviceId);
    if (port !== null) expect(parseUsbPath(port)).toBe(port);
    if (name !== null) expect([name.trim(), name !== '' && !name.includes('\0')]).toEqual([name, true]);
    if (productId !== null) expect(productId).toMatch(/^[\w-]{1,100}$/);
    expect(Object.keys(extra)).toEqual(columns);
    for (const cell of Object.values(extra)) expect(cell).not.toContain('\0');
  }
  expect(before).toBeLessThanOrEqual(text.split(/\r\n|\n|\r/).length);
}

test('a manifest of random bytes is read or refused by line and column', async () => {
  await fuzz(fc.uint8Array({ maxLength: 400 }), 300, check);
});

test('a manifest of the words and marks of one is read or refused by line and column', async () => {
  const sheets = fc
    .tuple(fc.boolean(), textOf(TOKENS, 60))
    .map(([headed, text]) => (headed ? 'device_id,name\n' : '') + text);
  await fuzz(sheets, 800, text => check(Buffer.from(text)));
});

test('a good manifest with some bytes changed is read or refused by line and column', async () => {
  await fuzz(mutated(Buffer.from(VALID), [...TOKENS, Buffer.from([0xc3]), Buffer.from([0xff, 0xfe])]), 800, check);
});

test('cells and lines about as long as they may be, and as a chunk of the file, are read or refused', async () => {
  const few = fc.constantFrom(...TOKENS).map(token => [token, 1] as const);
  const many = fc.tuple(
    fc.constantFrom('x', ' ', '"', '""', '\n', 'é', '😀', '\r\n', '\0'),
    fc.integer({ min: 65_480, max: 65_600 }),
  );
  const stretch = many.map(([unit, chars]) => [unit, Math.floor(chars / unit.length)] as const);
  const commas = fc.tuple(fc.constantFrom(',', 'x,', '"",'), fc.integer({ min: 1, max: 3000 }));
  const long = fc.array(fc.oneof({ weight: 4, arbitrary: few }, { weight: 2, arbitrary: stretch }, commas), {
    minLength: 2,
    maxLength: 12,
  });
  await fuzz(long, 60, parts => check(Buffer.from(`device_id,name\n${written(parts)}`)));
});
