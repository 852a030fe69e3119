import { existsSync, mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import Database from 'better-sqlite3';
import { describe, expect, test } from 'vitest';
import { Bench, type Ended } from '../support/cli.ts';

const GOOD = 'device_id\n0123456789abcdef01234567\n';

function stderrOf({ stderr }: Ended, bench: Bench): string {
  return stderr.replaceAll(bench.folder, 'FOLDER');
}

describe('what a user can get wrong ends with 2, one clear line, a hint, and nothing touched', () => {
  test('a manifest with many faults: each with its line and column', async () => {
    await using bench = await open();
    bench.file('bad.csv', 'device_id,name\nzz,A\n0123456789abcdef01234567,B\n0123456789ABCDEF01234567,C\n1\n');
    const ended = await bench.run(['run', 'bad.csv', '--sim', '1']);
    expect(ended.code).toBe(2);
    expect(stderrOf(ended, bench)).toMatchInlineSnapshot(`
      "error: bad.csv: 4 problems [MANIFEST_INVALID]
        bad.csv:2:1: "zz" is no device ID: 24 hexadecimal digits are needed
        bad.csv:4:1: device ID 0123456789abcdef01234567 is there twice: first on line 3
        bad.csv:5:1: the row is short: 1 of 2 cells
        bad.csv:5:1: "1" is no device ID: 24 hexadecimal digits are needed, it has 1
      hint: correct the lines and run again; nothing was touched
      "
    `);
    expect(existsSync(bench.path('photon-fleet.db'))).toBe(false);
  });

  test.each([
    ['an unknown command', ['fly']],
    ['no command', []],
    ['an unknown flag', ['run', 'good.csv', '--fast']],
    ['a manifest that is not there', ['run', 'none.csv', '--sim', '1']],
    ['an unknown job', ['run', 'good.csv', '--sim', '1', '--job', 'fly']],
    ['a job with an unknown step', ['run', 'good.csv', '--sim', '1', '--job', './bad-step.yaml']],
    ['a job with an unknown option', ['run', 'good.csv', '--sim', '1', '--job', './bad-option.yaml']],
    ['a configuration with an unknown key', ['run', 'good.csv', '--sim', '1', '--config', 'bad.yaml']],
    ['no token', ['run', 'good.csv', '--rack', '127.0.0.1:1']],
    ['an unreachable rack', ['run', 'good.csv', '--rack', '127.0.0.1:1', '--offline']],
    ['a rack beyond loopback', ['run', 'good.csv', '--rack', '192.0.2.7:3240', '--offline']],
    ['a server key job without a server', ['run', 'good.csv', '--sim', '1', '--job', 'server-key']],
    ['a size of a rack that is none', ['run', 'good.csv', '--sim', 'many']],
    ['an ID that is not in the manifest', ['run', 'good.csv', '--sim', '1', '--only', 'ffffffffffffffffffffffff']],
    ['a limit of nothing', ['run', 'good.csv', '--sim', '1', '--limit', '0']],
    ['an option of one value twice', ['run', 'good.csv', '--sim', '1', '--only', 'a', '--only', 'b']],
    ['a bad device ID', ['history', 'xyz']],
    ['no database', ['status']],
    ['a fault that is none', ['sim', 'rack', '--listen', '127.0.0.1:0', '--fault', '#1:fly']],
    ['a drop without a reason', ['outbox', 'drop', '0123456789abcdef01234567']],
  ])('%s', async (_, args) => {
    await using bench = await open();
    const ended = await bench.run(args);
    expect(ended.code).toBe(2);
    expect(ended.stdout).toBe('');
    const lines = stderrOf(ended, bench).trimEnd().split('\n');
    expect(lines.filter(line => line.startsWith('error: '))).toHaveLength(1);
    expect(lines.at(-1)).toMatch(/^hint: /);
    expect(ended.stderr).not.toMatch(/^\s+at /m);
    expect(stderrOf(ended, bench)).toMatchSnapshot();
    expect(existsSync(bench.path('photon-fleet.db'))).toBe(false);
  });

  test('a database of another program is left as it is', async () => {
    await using bench = await open();
    const foreign = new Database(bench.path('other.db'));
    foreign.exec('CREATE TABLE theirs (x)');
    foreign.close();
    const ended = await bench.run(['run', 'good.csv', '--sim', '1', '--db', 'other.db']);
    expect(ended.code).toBe(2);
    expect(stderrOf(ended, bench)).toContain('[DB_FOREIGN]');
  });

  test('a file that is no database, and a folder', async () => {
    await using bench = await open();
    bench.file('text.db', 'this is no database, however long it may be'.repeat(100));
    expect(stderrOf(await bench.run(['status', '--db', 'text.db']), bench)).toContain('[DB_FOREIGN]');
    mkdirSync(bench.path('folder.db'));
    expect(stderrOf(await bench.run(['status', '--db', 'folder.db']), bench)).toContain('[DB_UNREADABLE]');
  });

  test('a port in use', async () => {
    await using bench = await open();
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    for (const what of ['rack', 'cloud']) {
      const ended = await bench.run(['sim', what, '--listen', `127.0.0.1:${port}`]);
      expect([ended.code, ended.stderr.includes('[PORT_IN_USE]')]).toEqual([2, true]);
    }
    await new Promise(resolve => server.close(resolve));
  });
});

describe('--help', () => {
  test.each([
    ...['run', 'replay', 'devices', 'status', 'history', 'keys', 'outbox', 'release', 'restore', 'vault', 'audit'],
    ...['db', 'doctor', 'sim', 'demo'],
  ])('of %s has an example', async command => {
    await using bench = await open();
    const { code, stdout } = await bench.run([command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('Examples:');
    expect(stdout).toContain(`photon-fleet ${command}`);
  });

  test('--version says the version', async () => {
    await using bench = await open();
    expect(await bench.run(['--version'])).toMatchObject({ code: 0, stdout: '0.1.0\n' });
  });
});

async function open(): Promise<Bench> {
  const bench = new Bench();
  bench.file('good.csv', GOOD);
  bench.file('bad-step.yaml', 'name: bad\nsteps:\n  - identify\n  - fly\n');
  bench.file(
    'bad-option.yaml',
    'name: bad\nsteps:\n  - identify\n  - preflight\n  - backup\n  - new-key\n  - write:\n      server-kye: keep\n  - verify\n  - send\n  - leave\n',
  );
  bench.file('bad.yaml', 'concurency: 4\n');
  return Promise.resolve(bench);
}
