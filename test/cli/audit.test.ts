import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { createHash } from 'node:crypto';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bench, jsonLines } from '../support/cli.ts';
import { modeOf } from '../support/temp-folder.ts';

/** A station that has run twice, with a folder of checkpoints, and its copies that somebody has been at. */

const IDS = [1, 2, 3].map(n => n.toString(16).padStart(24, '0'));

let bench: Bench;
let afterFirst: string;
beforeAll(async () => {
  bench = new Bench();
  bench.file('rack.csv', ['device_id', ...IDS, ''].join('\n'));
  mkdirSync(bench.path('notes'));
  bench.file('config.yaml', 'audit:\n  checkpointDir: notes\n');
  expect((await bench.run(['run', 'rack.csv', '--sim', '3', '--operator', 'ada', '--json'])).code).toBe(0);
  afterFirst = bench.path('first.db');
  expect((await bench.run(['db', 'backup', afterFirst])).code).toBe(0);
  expect((await bench.run(['run', 'rack.csv', '--sim', '3', '--again', '--operator', 'bob', '--json'])).code).toBe(0);
});
afterAll(() => bench[Symbol.asyncDispose]());

let copies = 0;

/** A copy of the record in which triggers hold nobody back. */
async function tampered(sql: string): Promise<string> {
  const file = bench.path(`tampered-${(copies += 1)}.db`);
  expect((await bench.run(['db', 'backup', file])).code).toBe(0);
  const db = new Database(file);
  const triggers = db.prepare<[], string>(`SELECT name FROM sqlite_schema WHERE type = 'trigger'`).pluck().all();
  for (const name of triggers) db.exec(`DROP TRIGGER ${name}`);
  db.exec('PRAGMA foreign_keys = OFF');
  db.exec(sql);
  db.close();
  return file;
}

describe('audit verify', () => {
  test('finds a whole record whole, and prints its head', async () => {
    const { code, stdout } = await bench.run(['audit', 'verify', '--json']);
    expect(code).toBe(0);
    const { head, ...found } = JSON.parse(stdout) as Record<string, unknown>;
    expect(found).toEqual({ events: expect.any(Number) as number, checkpoints: 2, problems: [] });
    expect((await bench.run(['audit', 'verify', '--head', String(head)])).code).toBe(0);
    const plain = await bench.run(['audit', 'verify']);
    expect(plain.stdout).toContain('the journal is whole, and the tables follow from it');
    expect(plain.stdout).toContain(String(head));
  });

  test.each([
    ['an event that says something else', `UPDATE journal SET body = replace(body, 'ada', 'eve') WHERE seq = 9`, 9],
    ['a removed event', 'DELETE FROM journal WHERE seq = 12', 12],
    ['a hash', `UPDATE journal SET hash = zeroblob(32) WHERE seq = 5`, 5],
    ['all of it, and its checkpoints', 'DELETE FROM journal; DELETE FROM checkpoints', 1],
  ])('names the first event that is wrong: %s', async (_, sql, seq) => {
    const db = await tampered(sql);
    const { code, stdout, stderr } = await bench.run(['audit', 'verify', '--db', db, '--json']);
    expect(code).toBe(7);
    expect((JSON.parse(stdout) as { problems: unknown[] }).problems[0]).toMatchObject({ seq });
    expect(stderr).toContain(`first at event ${seq} [RECORD_JOURNAL]`);
  });

  test('finds a table that was changed though its journal was not', async () => {
    const db = await tampered(`UPDATE keys SET fingerprint = '${'0'.repeat(64)}' WHERE id = 1`);
    const { code, stdout } = await bench.run(['audit', 'verify', '--db', db]);
    expect(code).toBe(7);
    expect(stdout).toContain('keys 1 is not what the journal says: fingerprint');
    expect((await bench.run(['audit', 'rebuild', '--check', '--db', db])).code).toBe(7);
    expect((await bench.run(['audit', 'rebuild', '--check'])).code).toBe(0);
  });

  test('finds a tail that was cut, by a checkpoint kept elsewhere and by a head that was noted', async () => {
    const newest = readdirSync(bench.path('notes')).sort().at(-1)!;
    const note = bench.file('kept.note', readFileSync(bench.path(`notes/${newest}`)));
    const { stdout: verified } = await bench.run(['audit', 'verify', '--json']);
    const { head } = JSON.parse(verified) as { head: string };
    const elsewhere = bench.file('elsewhere.yaml', '{}\n');
    const args = ['audit', 'verify', '--db', afterFirst, '--config', elsewhere];
    expect((await bench.run(args)).code).toBe(0); // by itself it is whole
    const kept = await bench.run([...args, '--checkpoint', note]);
    expect(kept.code).toBe(7);
    expect(kept.stdout).toMatch(/the journal has \d+ events, and its checkpoint of \S+ says \d+/);
    const noted = await bench.run([...args, '--head', head]);
    expect(noted.code).toBe(7);
    expect(noted.stdout).toContain('the journal was cut or exchanged');
  });

  test('finds a checkpoint on record that somebody has been at', async () => {
    const db = await tampered(`UPDATE checkpoints SET note = replace(note, 'T', 'U') WHERE id = 1`);
    const { code, stdout } = await bench.run(['audit', 'verify', '--db', db]);
    expect(code).toBe(7);
    expect(stdout).toContain('checkpoint 1: ');
  });

  test('refuses the checkpoint of another station, one that is none, and a head that is none', async () => {
    await using other = new Bench();
    other.file('rack.csv', ['device_id', IDS[0], ''].join('\n'));
    expect((await other.run(['run', 'rack.csv', '--sim', '1'])).code).toBe(0);
    const theirs = await other.run(['audit', 'checkpoint', '--json']);
    const note = bench.file('theirs.note', (JSON.parse(theirs.stdout) as { note: string }).note);
    const foreign = await bench.run(['audit', 'verify', '--checkpoint', note]);
    expect(foreign.code).toBe(7);
    expect(foreign.stdout).toMatch(
      /the checkpoint is of the journal photon-fleet\/\S+, and this one is photon-fleet\//,
    );
    const missing = await bench.run(['audit', 'verify', '--checkpoint', bench.path('nothing')]);
    expect(missing.code).toBe(2);
    expect((await bench.run(['audit', 'verify', '--head', 'abc'])).code).toBe(2);
  });
});

describe('a database that was put back from an older copy', () => {
  test('is refused before anything is touched, as long as its checkpoint is there', async () => {
    const before = createHash('sha256').update(readFileSync(afterFirst)).digest('hex');
    const { code, stderr } = await bench.run(['run', 'rack.csv', '--sim', '3', '--db', afterFirst, '--again']);
    expect(code).toBe(7);
    expect(stderr).toContain('[RECORD_BEHIND]');
    const token = { PARTICLE_ACCESS_TOKEN: 'x' };
    expect((await bench.run(['replay', '--db', afterFirst], token)).stderr).toContain('[RECORD_BEHIND]');
    expect((await bench.run(['audit', 'checkpoint', '--db', afterFirst])).stderr).toContain('[RECORD_BEHIND]');
    expect(createHash('sha256').update(readFileSync(afterFirst)).digest('hex')).toBe(before);
  });
});

describe('signing', () => {
  test('a checkpoint that can not be copied is said, and the run counts all the same', async () => {
    await using station = new Bench();
    station.file('rack.csv', ['device_id', IDS[0], ''].join('\n'));
    mkdirSync(station.path('notes'), { mode: 0o700 });
    station.file('config.yaml', 'audit:\n  signingKeyFile: no/such/folder/key\n');
    const { code, stderr } = await station.run(['run', 'rack.csv', '--sim', '1']);
    expect(code).toBe(0);
    expect(stderr).toContain('warning: the journal has no checkpoint of this run');
    expect((await station.run(['audit', 'checkpoint'])).code).toBe(2);
  });

  test('a signing key that is gone, or another one, is refused', async () => {
    const db = await tampered('SELECT 1');
    const { code, stderr } = await bench.run(['audit', 'checkpoint', '--db', db]);
    expect(code).toBe(2);
    expect(stderr).toContain('which this database is bound to, is not there');
    expect(existsSync(db.replace(/\.db$/, '.signing-key'))).toBe(false);
  });
});

describe('audit report', () => {
  test('is a statement of each device and its key that openssl proves, as the README shows', async () => {
    expect((await bench.run(['audit', 'report', '2', '-o', 'run-2.json'])).code).toBe(0);
    expect(modeOf(bench.path('run-2.json'))).toBe('600');
    expect((await bench.run(['audit', 'report', '2', '-o', 'run-2.json'])).code).toBe(2);
    bench.file('station.pem', (await bench.run(['audit', 'key'])).stdout);
    const said = execFileSync('bash', ['-c', README_PROOF], { cwd: bench.folder, encoding: 'utf8' });
    expect(said).toContain('Verified Successfully');
    const statement = JSON.parse(readFileSync(bench.path('payload'), 'utf8')) as {
      subject: { name: string; digest: { sha256: string } }[];
      predicate: { run: number; devices: unknown[] };
    };
    const keys = IDS.map(id => {
      const db = new Database(bench.path('photon-fleet.db'), { readonly: true });
      const pem = db
        .prepare<[string], string>('SELECT public_pem FROM keys WHERE device_id = ? AND generation = 2')
        .pluck()
        .get(id)!;
      db.close();
      const der = Buffer.from(pem.replace(/-----[^-]+-----|\n/g, ''), 'base64');
      return { name: id, digest: { sha256: createHash('sha256').update(der).digest('hex') } };
    });
    expect(statement.subject).toEqual(keys);
    expect(statement.predicate).toMatchObject({ run: 2, job: 'rekey', exitCode: 0 });
    expect((await bench.run(['audit', 'report', '99'])).code).toBe(2);
    expect((await bench.run(['audit', 'report'])).code).toBe(2);
  });
});

/** What the README tells an auditor to type. */
const README_PROOF =
  /```sh proof\n([\s\S]*?)```/.exec(readFileSync(new URL('../../README.md', import.meta.url), 'utf8'))?.[1] ??
  'echo the README shows no proof';

describe('audit export', () => {
  test('gives every event as it was hashed, so that anybody can prove the chain', async () => {
    const { code, stdout } = await bench.run(['audit', 'export']);
    expect(code).toBe(0);
    let prev = '00'.repeat(32);
    const lines = stdout.trimEnd().split('\n');
    for (const line of lines) {
      const body = /"event":(\{.*\})\}$/.exec(line)![1]!;
      const hash = createHash('sha256')
        .update('photon-fleet journal event v1\n')
        .update(Buffer.from(prev, 'hex'))
        .update(body)
        .digest('hex');
      expect(line.startsWith(`{"prev":"${prev}","hash":"${hash}",`)).toBe(true);
      prev = hash;
    }
    const events = jsonLines(stdout).map(line => line['event'] as Record<string, unknown>);
    expect(new Set(events.map(({ operator }) => operator))).toEqual(new Set(['ada', 'bob', expect.any(String)]));
    const again = await bench.run(['audit', 'export', '--since', String(lines.length + 1)]);
    expect(jsonLines(again.stdout)[0]!['event']).toMatchObject({ event: 'exported', what: 'journal' });
  });

  test('gives one device’s events, and CSV that no spreadsheet runs', async () => {
    const { stdout } = await bench.run([
      'audit',
      'export',
      '--device',
      IDS[0]!,
      '--format',
      'csv',
      '--operator',
      '=cmd()',
    ]);
    const lines = stdout.trimEnd().split('\r\n');
    expect(lines[0]).toBe('seq,at,station,operator,event,device,run,fingerprint,facts,hash');
    expect(lines.slice(1).every(line => line.includes(IDS[0]!))).toBe(true);
    const later = await bench.run(['audit', 'export', '--format', 'csv']);
    expect(later.stdout).toContain(`,'=cmd(),exported,`);
    expect((await bench.run(['audit', 'export', '--device', 'x'])).code).toBe(2);
    expect((await bench.run(['audit', 'export', '--since', '0'])).code).toBe(2);
  });
});

test('audit rebuild changes nothing, and says so', async () => {
  const { code, stderr } = await bench.run(['audit', 'rebuild']);
  expect(code).toBe(2);
  expect(stderr).toContain('audit rebuild --check');
});
