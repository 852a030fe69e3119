import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
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
    expect(Object.keys(code)).toEqual(expect.arrayContaining(['main.cjs', 'station-thread.cjs']));
    expect(new Set(Object.values(code))).toEqual(new Set(['taken']));
  });

  test('takes it for a run too, which tells V8 to optimize later once all is loaded', async () => {
    await using bench = new Bench();
    writeFileSync(bench.path('rack.csv'), 'device_id\n350037000f47343337363230\n');
    const args = ['run', 'rack.csv', '--sim', '1', '--json', '--db', 'fleet.db'];
    const became = Object.values(codeOf(CLI, args, bench.folder));
    expect(became).toContain('taken');
    expect(became).not.toContain('rejected');
  });

  test('compiles a file anew whose code is not there, of another file, of another Node, or damaged', async () => {
    await using bench = new Bench();
    const dist = copyOfPackage(bench);
    const became = (): string | undefined => codeOf(join(dist, 'cli.js'), ['--version'], bench.folder)['version.cjs'];
    const file = join(dist, 'bundle', 'version.cjs');
    const source = readFileSync(file);
    const compiled = readFileSync(`${file}.compiled`);
    expect(became()).toBe('taken');
    rmSync(`${file}.compiled`);
    expect(became()).toBe('compiled');
    const otherNode = Buffer.from(compiled);
    otherNode.write('v20.0.1', otherNode.indexOf(process.version));
    const flipped = Buffer.from(compiled);
    flipped[flipped.length - 9]! ^= 1;
    for (const damaged of [otherNode, flipped, compiled.subarray(0, 300), compiled.subarray(0, 40), Buffer.alloc(0)]) {
      writeFileSync(`${file}.compiled`, damaged);
      expect(became()).toBe('compiled');
    }
    writeFileSync(`${file}.compiled`, compiled);
    writeFileSync(file, Buffer.from(source.toString().replace('package.json', 'package.jsom'))); // as long as it was
    const args = [join(dist, 'cli.js'), '--version'];
    expect(spawnSync(process.execPath, args, { encoding: 'utf8' }).stderr).toContain('package.jsom');
  });
});
