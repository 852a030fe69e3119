/*
 * The last step of the build: a small rack is provisioned, and the code that V8 has made of each file of the bundle meanwhile is
 * kept beside that file, for the next start (src/load.ts). Where that can't be done, a start takes longer, and that is all.
 *
 * Each of the processes has this file preloaded (`node -r`), in all of its threads.
 */
const { spawn } = require('node:child_process');
const { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { createInterface } = require('node:readline');
const v8 = require('node:v8');
const vm = require('node:vm');
const { isMainThread, threadId } = require('node:worker_threads');

const dist = join(__dirname, 'dist');

if (isMainThread && require.main === module) {
  provision().catch(error => process.stderr.write(`the bundle was not compiled ahead: ${error.message}\n`));
} else {
  keepCompiled();
}

function keepCompiled() {
  // V8 keeps with the code under which flags it was made, and a start has none but its own (src/cli/optimize-later.ts).
  v8.setFlagsFromString = () => undefined;
  const scripts = new Map();
  vm.Script = class extends vm.Script {
    constructor(source, options) {
      super(source, options);
      if (options?.filename?.startsWith(join(dist, 'bundle'))) scripts.set(options.filename, this);
    }
  };
  const { packed } = require(join(dist, 'bundle', 'load.cjs'));
  const keep = () => {
    for (const [file, script] of scripts) {
      const compiled = packed(readFileSync(file), script.createCachedData());
      // Of what several processes use, the one that used most of it knows most.
      const before = statSync(`${file}.compiled`, { throwIfNoEntry: false });
      if (before !== undefined && before.size >= compiled.length) continue;
      const fresh = `${file}.${process.pid}-${threadId}`;
      writeFileSync(fresh, compiled);
      renameSync(fresh, `${file}.compiled`);
    }
  };
  process.on('exit', keep);
  // A thread that is let go of is not asked.
  if (!isMainThread) setInterval(keep, 50).unref();
}

async function provision() {
  const folder = mkdtempSync(join(tmpdir(), 'photon-fleet-build-'));
  const simulators = [];
  try {
    const rack = await serve('rack', '--count', '4', '--hubs', '2', '--write-ms', '1');
    const cloud = await serve('cloud');
    const manifest = join(folder, 'rack.csv');
    writeFileSync(manifest, ['device_id', ...rack.devices.map(({ deviceId }) => deviceId), ''].join('\n'));
    const db = ['--db', join(folder, 'fleet.db')];
    const env = { PARTICLE_ACCESS_TOKEN: 'none', PHOTON_FLEET_CLOUD_URL: cloud.url };
    await ended(start(['keys', 'prepare', '--count', '2', ...db]));
    await ended(start(['run', manifest, '--rack', rack.address, ...db], env));
    await ended(start(['--help']));
  } finally {
    for (const child of simulators) {
      child.kill('SIGINT');
      await ended(child).catch(() => undefined);
    }
    rmSync(folder, { recursive: true, force: true });
  }

  function start(args, env = {}) {
    const bundled = [join(dist, 'cli.js'), ...args];
    return spawn(process.execPath, ['-r', __filename, ...bundled], {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: folder, XDG_RUNTIME_DIR: folder, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
    });
  }

  /** Starts a simulator. @returns what its first line says */
  async function serve(...args) {
    const child = start(['sim', ...args, '--listen', '127.0.0.1:0', '--json']);
    simulators.push(child);
    for await (const line of createInterface(child.stdout)) return JSON.parse(line);
    throw new Error(`${args[0]} did not start`);
  }
}

/** @throws Error where it ends otherwise than well */
async function ended(child) {
  const said = [];
  child.stdout.resume();
  child.stderr.on('data', piece => said.push(piece));
  const isOver = child.exitCode !== null || child.signalCode !== null;
  if (!isOver) await new Promise((resolve, reject) => child.on('close', resolve).on('error', reject));
  const { exitCode, signalCode, spawnargs } = child;
  if (exitCode === 0) return;
  throw new Error(`${spawnargs.slice(4, 6).join(' ')} ended with ${exitCode ?? signalCode}: ${said.join('').trim()}`);
}
