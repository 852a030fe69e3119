import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ManifestFault } from '#src/manifest/problems.ts';
import { readManifest } from '#src/manifest/read-manifest.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'manifest-'));
});
afterAll(() => rm(folder, { recursive: true }));

const KNOWN = ['device_id', 'port', 'name', 'product_id'];

/** Any text that a quoted cell can hold: line ends, quotes and commas included. */
const cell = fc.oneof(
  fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', ' ', 'ä', '😀', "'", ';', '\t'), maxLength: 12 }),
  fc.string({ unit: 'binary', maxLength: 12 }).filter(text => !text.includes('\0') && text.isWellFormed()),
);
const columnName = fc
  .oneof(fc.constantFrom('__proto__', 'constructor', 'note', 'a,b', 'q"q'), fc.string({ minLength: 1, maxLength: 6 }))
  .map(name => name.trim())
  .filter(name => name !== '' && !KNOWN.includes(name.toLowerCase()));

const sheet = fc
  .record({
    columns: fc.uniqueArray(columnName, { maxLength: 4, selector: name => name.toLowerCase() }),
    ids: fc.uniqueArray(fc.stringMatching(/^[0-9a-f]{24}$/), { minLength: 1, maxLength: 20 }),
    lineEnd: fc.constantFrom('\n', '\r\n', '\r'),
    mark: fc.boolean(),
    endsWithLineEnd: fc.boolean(),
    blanks: fc.boolean(),
  })
  .chain(shape =>
    fc.record({
      shape: fc.constant(shape),
      cells: fc.array(fc.array(cell, { minLength: shape.columns.length, maxLength: shape.columns.length }), {
        minLength: shape.ids.length,
        maxLength: shape.ids.length,
      }),
    }),
  );

/** RFC 4180: quoted where it has to be. */
function written(text: string): string {
  return /^$|^[^\s",]+$/.test(text) ? text : `"${text.replaceAll('"', '""')}"`;
}

describe('any sheet', () => {
  test('that was written as RFC 4180 says reads back cell for cell', async () => {
    const file = join(folder, 'sheet.csv');
    await fc.assert(
      fc.asyncProperty(sheet, async ({ shape, cells }) => {
        const { columns, ids, lineEnd, mark, endsWithLineEnd, blanks } = shape;
        const lines = [['device_id', ...columns], ...ids.map((id, row) => [id, ...cells[row]!])];
        const gap = blanks ? `${lineEnd} ${lineEnd}` : '';
        const text = lines.map(line => line.map(written).join(',')).join(lineEnd + gap);
        await writeFile(file, (mark ? '\ufeff' : '') + text + (endsWithLineEnd ? lineEnd : ''));
        const { rows } = await readManifest(file);
        expect(rows.map(({ deviceId, extra }) => [deviceId, Object.entries(extra)])).toEqual(
          // Integer-like names come first in any object.
          ids.map((id, row) => {
            const expected = Object.create(null) as Record<string, string>;
            columns.forEach((name, column) => (expected[name] = cells[row]![column]!));
            return [id, Object.entries(expected)];
          }),
        );
      }),
      { numRuns: 300 },
    );
  });

  test('of any bytes at all is read, or refused with problems that stand within the file', async () => {
    const file = join(folder, 'noise.csv');
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
      fc
        .string({
          unit: fc.constantFrom('"', ',', '\n', '\r', 'a', ' ', '\ufeff', '\u00a0', '\u3000', 'é', '\0'),
          maxLength: 200,
        })
        .map(text => Buffer.from(`device_id,name\n${text}`)),
    );
    await fc.assert(
      fc.asyncProperty(noise, async bytes => {
        await writeFile(file, bytes);
        const result = await readManifest(file).catch((thrown: unknown) => thrown);
        if (!(result instanceof ManifestFault)) {
          expect(result).toHaveProperty('rows');
          return;
        }
        const lines = bytes.toString('utf8').split(/\r\n|\n|\r/);
        expect(result.total).toBe(result.problems.length);
        for (const { line, column, message } of result.problems) {
          expect(line).toBeGreaterThanOrEqual(1);
          expect(line).toBeLessThanOrEqual(lines.length);
          expect(column).toBeGreaterThanOrEqual(1);
          expect(column).toBeLessThanOrEqual(lines[line - 1]!.length + 1);
          expect(message).toMatch(/^[^\p{C}]+$/u);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test('100,000 rows are read in a stream: what is kept is the rows', async () => {
  const file = join(folder, 'large.csv');
  const handle = await open(file, 'w');
  // 40 MB, of which a cell of 300 characters a row goes into `extra`.
  await handle.write('device_id,name,port,note\n');
  for (let block = 0; block < 100; block += 1) {
    const lines = Array.from({ length: 1000 }, (_, row) => {
      const id = (block * 1000 + row).toString(16).padStart(24, '0');
      return `${id},"Lamp ""${row}""",1-1.${(block % 200) + 1}.${(row % 250) + 1}.${Math.floor(row / 250) + 1},${'n'.repeat(300)}\n`;
    });
    await handle.write(lines.join(''));
  }
  await handle.close();

  const buffersOf = (): number => {
    const { external, arrayBuffers } = process.memoryUsage();
    return external + arrayBuffers;
  };
  const heapBefore = process.memoryUsage().heapUsed;
  const buffersBefore = buffersOf();
  let buffersMost = 0;
  let count = 0;
  const { rows } = await readManifest(file, {
    onRow() {
      count += 1;
      if (count % 500 === 0) buffersMost = Math.max(buffersMost, buffersOf());
    },
  });
  expect(rows).toHaveLength(100_000);
  expect(count).toBe(100_000);
  expect(rows[99_999]).toMatchObject({ line: 100_001, name: 'Lamp "999"', port: '1-1.100.250.4' });
  // Never the file's 40 MB at once; buffers wait for the collector, so the bound is generous.
  expect(buffersMost - buffersBefore).toBeLessThan(30_000_000);
  expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(250_000_000);
});
