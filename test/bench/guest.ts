import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { Bench, CLI, csvOf, jsonLines } from '../support/cli.ts';
import { RackOnKernel } from '../usb/rack-on-kernel.ts';
import { expectCode, run } from './processes.ts';
import type { Ran } from './processes.ts';

/*
 * Runs in the guest: a whole `photon-fleet run` against what users have now, three calls of dfu-util a device, one device
 * after the other and all at once. Each line that begins with `BENCH ` is a figure, in ms.
 *
 *   node guest.js RACK POOL WORK ROUNDS PART…     RACK: the state of a rack of 60 on 8 hubs; POOL: a database with key pairs
 *                                                 prepared for all of them; WORK: a folder with keys for dfu-util
 */

const HUBS = 8;
/** How many devices dfu-util is given one after the other; the time is taken for all by multiplying. */
const SERIAL = 8;

const [prepared = '', pool = '', work = '', rounds = '1', ...parts] = process.argv.slice(2);

await using bench = new Bench();
const rack = await RackOnKernel.of(bench, prepared, HUBS);
const manifest = bench.file('rack.csv', csvOf(rack.devices));
const cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0']);
const env = {
  ...process.env,
  PARTICLE_ACCESS_TOKEN: 'token-of-the-bench',
  PHOTON_FLEET_CLOUD_URL: cloud.url,
  XDG_RUNTIME_DIR: bench.folder,
};
await rack.start();
await rack.plugIn(rack.devices);
for (let round = 1; round <= Number(rounds); round += 1) {
  if (parts.includes('pool')) await ours('pool', round);
  if (parts.includes('made')) await ours('made', round);
  if (parts.includes('serial')) await theirs('serial', round);
  if (parts.includes('parallel')) await theirs('parallel', round);
  if (parts.includes('serial-made')) await theirs('serial-made', round);
  if (parts.includes('parallel-made')) await theirs('parallel-made', round);
}
await rack.stop();

/** With key pairs made ahead, or none. Every device leaves DFU mode, so the rack is switched off and on afterwards. */
async function ours(how: 'pool' | 'made', round: number): Promise<void> {
  const folder = join(bench.folder, `${how}-${round}`);
  await mkdir(folder);
  if (how === 'pool') await cp(pool, folder, { recursive: true });
  const profile = process.env['BENCH_PROFILE'] === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir=/out/profile'];
  const args = [...profile, CLI, 'run', manifest, '--db', join(folder, 'fleet.db'), '--json', '--wait', '20'];
  const ran = expectCode(await run(process.execPath, args, { env, cwd: folder }), 0);
  const summary = jsonLines(ran.stdout).at(-1) ?? {};
  if (summary['pass'] !== rack.devices.length) throw new Error(`not all passed: ${ran.stdout}`);
  if (process.env['BENCH_STEPS'] !== undefined) tellSteps(join(folder, 'fleet.db'));
  tell(how, ran, { durationMs: summary['durationMs'], startedMs: ran.firstLineMs });
  await rack.cycle();
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

async function theirs(how: 'serial' | 'parallel' | 'serial-made' | 'parallel-made', round: number): Promise<void> {
  const serial = how.startsWith('serial');
  const made = how.endsWith('-made');
  const devices = rack.devices.slice(0, serial ? SERIAL : rack.devices.length);
  const folder = join(bench.folder, `${how}-${round}`);
  await mkdir(folder);
  const script = join(folder, 'device.sh');
  await writeFile(script, deviceScript(folder, made), { mode: 0o755 });
  const list = join(folder, 'paths');
  await writeFile(list, devices.map(({ path }, nth) => `${path} ${nth}\n`).join(''));
  const args = ['-a', list, '-L', '1', '-P', serial ? '1' : String(devices.length), 'bash', script];
  const ran = expectCode(await run('xargs', args, { env }), 0, 123); // 123: some devices never went through
  tell(how, ran, { devices: devices.length, again: countOf('again', ran), gaveUp: countOf('gave-up', ran) });
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

function tell(part: string, { wallMs, peakMiB }: Ran, more: Record<string, unknown>): void {
  process.stdout.write(`BENCH ${JSON.stringify({ part, wallMs, peakMiB, ...more })}\n`);
}
