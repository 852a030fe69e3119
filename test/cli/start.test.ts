import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Bench, CLI } from '../support/cli.ts';
import { projectFile } from '../support/project.ts';

/** Runs a command, and tells what became of the compiled code of each file that it loaded. */
function codeOf(cli: string, args: readonly string[], cwd: string): Record<string, string> {
  const hook = projectFile('test/support/told-of-scripts.cjs');
  const { status, stderr } = spawnSync(process.execPath, ['-r', hook, cli, ...args], { cwd, encoding: 'utf8' });
  expect([status, stderr.replaceAll(/^code of .*\n/gm, '')]).toEqual([0, '']);
  const lines = [...stderr.matchAll(/^code of (\S+): (\S+)$/gm)];
  return Object.fromEntries(lines.map(([, file = '', became = '']) => [file, became]));
}

/** The built package, elsewhere. */
function copyOfPackage(bench: Bench): string {
  cpSync(projectFile('dist'), bench.path('package/dist'), { recursive: true, preserveTimestamps: true });
  cpSync(projectFile('package.json'), bench.path('package/package.json'));
  for (const name of ['node_modules', 'migrations', 'jobs'])
    symlinkSync(projectFile(name), bench.path(`package/${name}`));
  return bench.path('package/dist');
}

describe('a start', () => {
  test('takes the code that the build has compiled, in every thread', async () => {
    await using bench = new Bench();
    const code = codeOf(CLI, ['keys', 'prepare', '--count', '1', '--json', '--db', 'fleet.db'], bench.folder);
    expect(Object.keys(code)).toEqual(expect.arrayContaining(['main.cjs', 'worker.cjs', 'sealing-thread.cjs']));
    expect(new Set(Object.values(code))).toEqual(new Set(['taken']));
  });

  test('compiles a file anew that is newer than its code, or has none', async () => {
    await using bench = new Bench();
    const dist = copyOfPackage(bench);
    const file = join(dist, 'bundle', 'version.cjs');
    const args = ['--version'];
    expect(codeOf(join(dist, 'cli.js'), args, bench.folder)['version.cjs']).toBe('taken');
    rmSync(`${file}.compiled`);
    expect(codeOf(join(dist, 'cli.js'), args, bench.folder)['version.cjs']).toBe('compiled');
    writeFileSync(`${file}.compiled`, 'no code at all');
    expect(codeOf(join(dist, 'cli.js'), args, bench.folder)['version.cjs']).toBe('rejected');
    const later = new Date(Date.now() + 60_000);
    utimesSync(file, later, later);
    expect(codeOf(join(dist, 'cli.js'), args, bench.folder)['version.cjs']).toBe('compiled');
  });

  test('says the same with code that is damaged', async () => {
    await using bench = new Bench();
    const dist = copyOfPackage(bench);
    const file = join(dist, 'bundle', 'main.cjs.compiled');
    const help = spawnSync(process.execPath, [CLI, '--help'], { encoding: 'utf8' }).stdout;
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.subarray(0, bytes.length / 2));
    const { status, stdout } = spawnSync(process.execPath, [join(dist, 'cli.js'), '--help'], { encoding: 'utf8' });
    expect([status, stdout]).toEqual([0, help]);
  });
});
