import { createHash } from 'node:crypto';
import { mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseUsbPath } from '#src/core/usb-path.ts';
import { Fault } from '#src/core/errors.ts';
import type { Manifest, ManifestRow, ReadManifestOptions } from '#src/manifest/manifest.ts';
import { ManifestFault, formatProblems } from '#src/manifest/problems.ts';
import { readManifest } from '#src/manifest/read-manifest.ts';

const A = '1b003b000347343138333037';
const B = '2c003c000447343138333038';
const C = '3d003d000547343138333039';

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'manifest-'));
  file = join(folder, 'rack.csv');
});
afterEach(() => rm(folder, { recursive: true }));

async function read(content: string | Buffer, options?: ReadManifestOptions): Promise<Manifest> {
  await writeFile(file, content);
  return readManifest(file, options);
}

/** The problems as they are printed, without the folder. */
async function problemsOf(content: string | Buffer, options?: ReadManifestOptions): Promise<string[]> {
  const fault: unknown = await read(content, options).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(fault instanceof ManifestFault)) throw new Error(`no ManifestFault but ${String(fault)}`, { cause: fault });
  return formatProblems(fault).map(line => line.replace(`${folder}/`, ''));
}

describe('a good manifest', () => {
  test('gives its rows, its real path and the hash of its bytes', async () => {
    const content = `device_id,port,name,product_id,colour\n${A},3-1.4,Lamp,1234,red\n${B},,,,\n`;
    const { path, sha256, rows } = await read(content);
    expect(path).toBe(await realpath(file));
    expect(sha256).toBe(createHash('sha256').update(content).digest('hex'));
    expect(rows).toEqual([
      { line: 2, deviceId: A, port: '3-1.4', name: 'Lamp', productId: '1234', extra: { colour: 'red' } },
      { line: 3, deviceId: B, port: null, name: null, productId: null, extra: { colour: '' } },
    ]);
  });

  test('is known by its real path, also when a link leads to it', async () => {
    await writeFile(file, `device_id\n${A}\n`);
    await symlink(file, join(folder, 'link.csv'));
    expect((await readManifest(join(folder, 'link.csv'))).path).toBe(await realpath(file));
  });

  test('may have a byte order mark, CRLF, quotes, white space, blank lines and no line end at its end', async () => {
    const { rows } = await read(
      `\ufeff "Device_ID" , NAME \r\n\r\n  ${A.toUpperCase()}\t, "a ""b"", c" \r\n   \r\n"${B}",""\r\n${C}, x`,
    );
    expect(rows.map(({ line, deviceId, name }) => [line, deviceId, name])).toEqual([
      [3, A, 'a "b", c'],
      [5, B, null],
      [6, C, 'x'],
    ]);
  });

  test('may mix LF, CRLF and CR, and every row keeps its line', async () => {
    const { rows } = await read(`device_id,note\r${A},x\n${B},"two\r\nlines"\r\n${C},y\r`);
    expect(rows.map(({ line, deviceId, extra }) => [line, deviceId, extra['note']])).toEqual([
      [2, A, 'x'],
      [3, B, 'two\r\nlines'],
      [5, C, 'y'],
    ]);
  });

  test('may name a socket of the configuration as port', async () => {
    const sockets = { 'A-04': parseUsbPath('3-1.4')! };
    const { rows } = await read(`device_id,port\n${A},A-04\n${B},10.0.0.7:3240/1-2.3\n`, { sockets });
    expect(rows.map(row => row.port)).toEqual(['3-1.4', '10.0.0.7:3240/1-2.3']);
  });

  test('keeps columns with the names of Object.prototype like any other', async () => {
    const { rows } = await read(`device_id,__proto__,constructor,toString\n${A},evil,b,c\n`);
    expect(Object.entries(rows[0]!.extra)).toEqual([
      ['__proto__', 'evil'],
      ['constructor', 'b'],
      ['toString', 'c'],
    ]);
    expect(({} as Record<string, unknown>)['evil']).toBeUndefined();
  });

  test('takes a product by number or by slug', async () => {
    const { rows } = await read(`product_id,device_id\n42,${A}\nrack-monitor-v2,${B}\n`);
    expect(rows.map(row => row.productId)).toEqual(['42', 'rack-monitor-v2']);
  });

  test('tells of each row as it is read', async () => {
    const seen: ManifestRow[] = [];
    const { rows } = await read(`device_id\n${A}\n${B}\n`, { onRow: row => seen.push(row) });
    expect(seen).toEqual(rows);
  });
});

describe('a manifest with problems', () => {
  test('is refused with every one of them at once', async () => {
    const content = [
      'device_id,port,name,product_id',
      `${A},3-1.4,ok,`,
      `${A.toUpperCase()},3-1.5,again,`,
      'xyz,3-1.6,,',
      `${B},3-1.4,,`,
      `${C},elsewhere,,no product`,
      ',,,',
      `4e003e000647343138333040,,short`,
      `5f003f000747343138333041,,,,long`,
      `6a003a000847343138333042,,"broken" quote,`,
      `7b003b000947343138333043,,in"side,`,
      `8c003c000a47343138333044,,nul\0,`,
      `9d003d000b4734313833304,,,`,
      'zz003d000b47343138333045,,,',
      '1.23457E+23,,,',
    ].join('\n');
    expect(await problemsOf(content)).toMatchInlineSnapshot(`
      [
        "rack.csv:3:1: device ID 1b003b000347343138333037 is there twice: first on line 2",
        "rack.csv:4:1: "xyz" is no device ID: 24 hexadecimal digits are needed",
        "rack.csv:5:26: port 3-1.4 is there twice: first on line 2",
        "rack.csv:6:26: "elsewhere" is no port: neither a USB path such as 3-1.4 nor a socket of the configuration",
        "rack.csv:6:37: "no product" is no product: give its number or its slug",
        "rack.csv:7:1: the device ID is empty",
        "rack.csv:8:27: the row is short: 3 of 4 cells",
        "rack.csv:9:29: the row is long: 5 cells, the header has 4",
        "rack.csv:10:27: the quoted cell goes on after its closing quote, or its quote is not closed",
        "rack.csv:11:29: a quote inside a cell that does not begin with one (write the cell as "…", and the quote twice)",
        "rack.csv:12:30: a NUL byte: this is no text",
        "rack.csv:13:1: "9d003d000b4734313833304" is no device ID: 24 hexadecimal digits are needed, it has 23",
        "rack.csv:14:1: "zz003d000b47343138333045" is no device ID: not all of it are hexadecimal digits",
        "rack.csv:15:1: "1.23457E+23" is no device ID: a spreadsheet made a number of it; make the column text and paste anew",
      ]
    `);
  });

  test('has a fault that counts them, with its code and the path', async () => {
    await writeFile(file, 'device_id\nx\ny\n');
    const fault = await readManifest(file).catch((thrown: unknown) => thrown as ManifestFault);
    expect(fault).toBeInstanceOf(Fault);
    expect(fault).toMatchObject({
      code: 'MANIFEST_INVALID',
      message: `${file}: 2 problems`,
      problems: [{ line: 2 }, { line: 3 }],
    });
  });

  test('prints the first 50 and says how many more there are', async () => {
    const lines = await problemsOf(`device_id\n${'bad\n'.repeat(20_000)}`);
    expect(lines).toHaveLength(51);
    expect(lines.at(-1)).toBe('and 19950 more');
  });

  test.each([
    ['an empty file', ''],
    ['a byte order mark and nothing else', '\ufeff'],
    ['blank lines alone', '\n  \r\n\n'],
  ])('is %s', async (_, content) => {
    expect(await problemsOf(content)).toEqual([
      'rack.csv:1:1: the file is empty: it needs a header with the column device_id, and a row a device',
    ]);
  });

  test('is a header without rows', async () => {
    expect(await problemsOf('\ndevice_id,name\n\n')).toEqual([
      'rack.csv:2:1: the file has a first line and nothing after it: no device is named',
    ]);
  });

  test('has no header', async () => {
    expect(await problemsOf(`${A},x\n${B},y\n`)).toMatchInlineSnapshot(`
      [
        "rack.csv:1:1: the header is missing: the first line holds a device ID; put a line with the names of the columns before it",
      ]
    `);
  });

  test('has a header without device_id, and is told what it may be', async () => {
    const separator = await problemsOf(`device_id;name\n${A};x\n`);
    const spelling = await problemsOf(`name, Device ID\nx,${A}\n`);
    const nothing = await problemsOf(`serial,name\nx,y\n`);
    expect([...separator, ...spelling, ...nothing]).toMatchInlineSnapshot(`
      [
        "rack.csv:1:1: the header has no column device_id: cells are separated by commas here, not by ";"",
        "rack.csv:1:1: the header has no column device_id: is it "Device ID"?",
        "rack.csv:1:1: the header has no column device_id",
      ]
    `);
  });

  test('has a header with doubled and nameless columns', async () => {
    expect(await problemsOf(`device_id,name,,Name,x,x\n${A},1,2,3,4,5\n`)).toMatchInlineSnapshot(`
      [
        "rack.csv:1:16: column 3 of the header has no name",
        "rack.csv:1:17: column "Name" is there twice: 2 and 4",
        "rack.csv:1:24: column "x" is there twice: 5 and 6",
      ]
    `);
  });

  test('has a broken header, and its rows are not judged by guesswork', async () => {
    expect(await problemsOf(`device_id,"na"me\n${A},x\nbad,y\n`)).toMatchInlineSnapshot(`
      [
        "rack.csv:1:11: the quoted cell goes on after its closing quote, or its quote is not closed",
      ]
    `);
  });

  test('has white space beyond ASCII after a closing quote; before the quote and without quotes it is dropped', async () => {
    expect(await problemsOf(`device_id,name\n${A},\u00a0"x"\n${B},\u00a0x\u3000\n${C},"x"\u00a0\n`)).toEqual([
      'rack.csv:4:26: the quoted cell goes on after its closing quote, or its quote is not closed',
    ]);
  });

  test('has a quote that is never closed, and the lines after it are read all the same', async () => {
    expect(await problemsOf(`device_id,name\n${A},"open\nbad,x\n${B},"fine"\n${B},x\n`)).toMatchInlineSnapshot(`
      [
        "rack.csv:2:26: the quoted cell goes on after its closing quote, or its quote is not closed",
        "rack.csv:3:1: "bad" is no device ID: 24 hexadecimal digits are needed, it has 3",
        "rack.csv:5:1: device ID 2c003c000447343138333038 is there twice: first on line 4",
      ]
    `);
  });

  test('has an open quote at its end', async () => {
    expect(await problemsOf(`device_id,name\n${A},"open\n${B},x\nbad,y\n`)).toMatchInlineSnapshot(`
      [
        "rack.csv:2:26: the quote is not closed",
        "rack.csv:4:1: "bad" is no device ID: 24 hexadecimal digits are needed, it has 3",
      ]
    `);
  });

  test('has an open quote and no other in a long file', async () => {
    const rows = Array.from({ length: 20_000 }, (_, n) => `${n.toString(16).padStart(24, '0')},x\n`).join('');
    expect(await problemsOf(`device_id,name\n${A},"open\n${rows}`)).toMatchInlineSnapshot(`
      [
        "rack.csv:2:26: the quote is not closed within 65536 characters",
      ]
    `);
  });

  test('has invalid UTF-8, told by character, not by byte', async () => {
    const content = Buffer.concat([
      Buffer.from(`\ufeffdevice_id,name\n${A},"ä€😀\ufffd`),
      Buffer.from([0xe4]), // an ä of Latin-1
      Buffer.from(`"\n`),
    ]);
    expect(await problemsOf(content)).toEqual(['rack.csv:2:31: invalid UTF-8: save the file as UTF-8']);
  });

  test('is UTF-16', async () => {
    expect(await problemsOf(Buffer.from(`\ufeffdevice_id\n${A}\n`, 'utf16le'))).toEqual([
      'rack.csv:1:1: the file is UTF-16: save it as UTF-8 (in Excel: "CSV UTF-8")',
    ]);
  });

  test('has a line without an end, which is not kept in memory', async () => {
    const content = Buffer.concat([
      Buffer.from(`device_id,name\n${A},`),
      Buffer.alloc(3_000_000, 'x'),
      Buffer.from(`\r\nbad,y\n`),
    ]);
    expect(await problemsOf(content)).toMatchInlineSnapshot(`
      [
        "rack.csv:2:1: the line is longer than 65536 bytes",
        "rack.csv:3:1: "bad" is no device ID: 24 hexadecimal digits are needed, it has 3",
      ]
    `);
  });

  test('has two rows for one port, by path and by the name of its socket', async () => {
    const sockets = { 'A-04': parseUsbPath('3-1.4')! };
    expect(await problemsOf(`device_id,port\n${A},3-1.4\n${B},A-04\n${C},toString\n`, { sockets }))
      .toMatchInlineSnapshot(`
      [
        "rack.csv:3:26: port "A-04" (3-1.4) is there twice: first on line 2",
        "rack.csv:4:26: "toString" is no port: neither a USB path such as 3-1.4 nor a socket of the configuration",
      ]
    `);
  });

  test('shows what a cell holds without harm to the terminal', async () => {
    const cell = `\u001b[31m\u202e\u200b${'x'.repeat(100)}`;
    expect(await problemsOf(`device_id\n${cell}\n`)).toMatchInlineSnapshot(`
      [
        "rack.csv:2:1: "\\u{1b}[31m\\u{202e}\\u{200b}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" is no device ID: 24 hexadecimal digits are needed",
      ]
    `);
  });

  test('counts columns in a record of several lines', async () => {
    expect(await problemsOf(`name,device_id,port\n"two\nlines",  bad, worse\n`)).toMatchInlineSnapshot(`
      [
        "rack.csv:3:10: "bad" is no device ID: 24 hexadecimal digits are needed, it has 3",
        "rack.csv:3:15: "worse" is no port: neither a USB path such as 3-1.4 nor a socket of the configuration",
      ]
    `);
  });
});

describe('what can not be read', () => {
  test.each([
    ['missing', 'nothing.csv', 'there is no such file'],
    ['a folder', '', 'it is a folder'],
    ['below a file', 'rack.csv/x', 'a part of the path is no folder'],
    ['a device', '/dev/null', 'it is no regular file'],
  ])('is MANIFEST_UNREADABLE: %s', async (_, name, why) => {
    await writeFile(file, '');
    const path = resolve(folder, name);
    const fault = await readManifest(path).catch((thrown: unknown) => thrown as Fault);
    expect(fault).toMatchObject({
      code: 'MANIFEST_UNREADABLE',
      message: `${path}: the manifest can't be read: ${why}`,
      facts: { path },
    });
  });
});
