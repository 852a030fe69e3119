import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { Bench, CLI, csvOf, jsonLines } from '../support/cli.ts';
import { placesOf } from '../usb/rack-on-kernel.ts';
import { plugIn, unplugAll } from '../usb/vhci.ts';
import { expectCode, run } from './processes.ts';
import type { Ran } from './processes.ts';

/*
 * Runs in the guest: a whole `photon-fleet run` against what users have now, three calls of dfu-util a device, one device
 * after the other and all at once. Each line that begins with `BENCH ` is a figure, in ms.
 *
 * The racks and the cloud are processes outside: what a device or a cloud does costs the station nothing.
 *
 *   node guest.js WORK ROUNDS PART…     WORK: a folder with `rack`, the state of a rack of 60; `pool`, a database with key pairs
 *                                       prepared for all of them; `keys` for dfu-util; `racks`, the ports of as many racks in
 *                                       that state as are worked on; `cloud`, the cloud's port
 */

const HUBS = 8;
/** How many devices dfu-util is given one after the other; the time is taken for all by multiplying. */
const SERIAL = 8;
const THEIRS = ['serial', 'parallel', 'serial-made', 'parallel-made'] as const;

/** This machine, as the guest sees it. */
const OUTSIDE = '10.0.2.2';

const [work = '', rounds = '1', ...parts] = process.argv.slice(2);

await using bench = new Bench();
const devices = await placesOf(join(work, 'rack'), HUBS);
const racks = (await readFile(join(work, 'racks'), 'utf8')).trim().split(/\s+/);
const manifest = bench.file('rack.csv', csvOf(devices));
const env = {
  ...process.env,
  PARTICLE_ACCESS_TOKEN: 'token-of-the-bench',
  PHOTON_FLEET_CLOUD_URL: `http://${OUTSIDE}:${(await readFile(join(work, 'cloud'), 'utf8')).trim()}`,
  PHOTON_FLEET_CLOUD_INSECURE: 'true',
  XDG_RUNTIME_DIR: bench.folder,
};
for (let round = 1; round <= Number(rounds); round += 1) {
  if (parts.includes('pool')) await ours('pool', round);
  if (parts.includes('made')) await ours('made', round);
  const theirParts = THEIRS.filter(part => parts.includes(part));
  if (theirParts.length > 0) await plugInRack();
  for (const part of theirParts) await theirs(part, round);
}

/** A rack that nobody has worked on, in place of the one that is plugged in. */
async function plugInRack(): Promise<void> {
  await unplugAll();
  await plugIn({ host: OUTSIDE, port: Number(racks.shift()) }, devices);
}

/** With key pairs made ahead, or none. */
async function ours(how: 'pool' | 'made', round: number): Promise<void> {
  await plugInRack();
  const folder = join(bench.folder, `${how}-${round}`);
  await mkdir(folder);
  if (how === 'pool') await cp(join(work, 'pool'), folder, { recursive: true });
  const profile = process.env['BENCH_PROFILE'] === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir=/out/profile'];
  const args = [...profile, CLI, 'run', manifest, '--db', join(folder, 'fleet.db'), '--json', '--wait', '20'];
  const ran = expectCode(await run(process.execPath, args, { env, cwd: folder, memory: false }), 0);
  const summary = jsonLines(ran.stdout).at(-1) ?? {};
  if (summary['pass'] !== devices.length) throw new Error(`not all passed: ${ran.stdout}`);
  if (process.env['BENCH_STEPS'] !== undefined) tellSteps(join(folder, 'fleet.db'));
  tell(how, ran, { durationMs: summary['durationMs'], startedMs: ran.firstLineMs });
}

/** Where the time went: each step's begin and end, in ms from the first, and its mean length. */
function tellSteps(path: string): void {
  const db = new Database(path, { readonly: true });
  const steps = db
    .prepare(
      `SELECT name, count(*) AS n, min(started_at) - (SELECT min(started_at) FROM attempts) AS first, max(started_at + ms) -
              (SELECT min(started_at) FROM attempts) AS last, round(avg(ms)) AS mean FROM steps GROUP BY name ORDER BY first`,
    )
    .all();
  db.close();
  for (const step of steps) process.stdout.write(`STEP ${JSON.stringify(step)}\n`);
}

async function theirs(how: (typeof THEIRS)[number], round: number): Promise<void> {
  const serial = how.startsWith('serial');
  const made = how.endsWith('-made');
  const worked = devices.slice(0, serial ? SERIAL : devices.length);
  const folder = join(bench.folder, `${how}-${round}`);
  await mkdir(folder);
  const script = join(folder, 'device.sh');
  await writeFile(script, deviceScript(folder, made), { mode: 0o755 });
  const list = join(folder, 'paths');
  await writeFile(list, worked.map(({ path }, nth) => `${path} ${nth}\n`).join(''));
  const args = ['-a', list, '-L', '1', '-P', serial ? '1' : String(worked.length), 'bash', script];
  const ran = expectCode(await run('xargs', args, { env, memory: false }), 0, 123); // 123: some devices never went through
  tell(how, ran, { devices: worked.length, again: countOf('again', ran), gaveUp: countOf('gave-up', ran) });
}

/**
 * What a person would have in a script: the server key saved, the device's key written, the server key written. Of sixty
 * at once some fail, for want of a processor, and are called again, as a person would.
 */
function deviceScript(folder: string, made: boolean): string {
  const key = made
    ? [
        `openssl genrsa -traditional 1024 2>/dev/null >"${folder}/$2.pem"`,
        `openssl rsa -traditional -in "${folder}/$2.pem" -outform DER -out "${folder}/$2.der" 2>/dev/null`,
      ]
    : [`cp "${work}/keys/$2.der" "${folder}/$2.der"`];
  return [
    'set -e',
    'dfu() {',
    '  for try in 1 2 3 4 5; do',
    `    [[ $* == *-U* ]] && rm -f "${folder}/$nth.server.bak" # over which dfu-util would not write`,
    '    dfu-util -d 2b04:d006 -p "$path" -a 1 "$@" >/dev/null 2>&1 && return',
    '    echo again',
    '  done',
    '  echo gave-up',
    '  return 1',
    '}',
    'path=$1 nth=$2',
    ...key,
    `dfu -s 2082:512 -U "${folder}/$2.server.bak"`,
    `dfu -s 34 -D "${folder}/$2.der"`,
    `dfu -s 2082 -D "${work}/server.pub.der"`,
    '',
  ].join('\n');
}

function countOf(word: string, { stdout }: Ran): number {
  return stdout.split(word).length - 1;
}

function tell(part: string, { wallMs }: Ran, more: Record<string, unknown>): void {
  process.stdout.write(`BENCH ${JSON.stringify({ part, wallMs, ...more })}\n`);
}
