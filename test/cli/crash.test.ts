import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DeviceId } from '#src/core/device-id.ts';
import { FAIL_POINTS, FAIL_VARIABLE } from '#src/core/fail-points.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { defaultServerKey } from '#src/sim/photon-image.ts';
import { simulatedId } from '#src/sim/rack-layout.ts';
import { parseCloudFault, startVirtualCloud, type VirtualCloud } from '#src/sim/virtual-cloud.ts';
import { identityFileOf, readIdentity } from '#src/vault/identity-file.ts';
import { vaultOf } from '#src/vault/vault.ts';
import { breaches, lost, recorded } from '../support/audit.ts';
import { Bench, closed, exit, jsonLines, type Ended, type Served } from '../support/cli.ts';
import { dctInFolder } from '../support/flash-file.ts';

/** `kill -9` at every boundary and inside every act: each point with each job and each answer of the cloud, as processes. */

const both = (...names: string[]): string[] =>
  names.flatMap(name => [`record:${name}:performed`, `record:${name}:committed`]);
const steps = (...names: string[]): string[] => names.map(name => `step:${name}`);

interface Scenario {
  readonly name: string;
  readonly job: 'rekey' | 'backup' | 'server-key' | 'provision' | './confirm.yaml';
  readonly cloud: string | null;
  /** What the row says once the work has been finished. */
  readonly row: Record<string, unknown>;
  readonly exitCode: number;
  /** Key pairs on record in the end, and sectors rewritten in all. */
  readonly keys: number;
  readonly rewrites: number;
  readonly points: readonly string[];
  /** What is different where it was killed there. */
  readonly otherwise?: Readonly<Record<string, { row: Record<string, unknown>; keys: number }>>;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'a re-key that the cloud accepts',
    job: 'rekey',
    cloud: null,
    row: { outcome: 'pass', code: null, cloud: 'accepted' },
    exitCode: 0,
    keys: 1,
    rewrites: 1,
    points: [
      ...steps('identify', 'preflight', 'backup', 'new-key', 'write', 'verify', 'send', 'leave'),
      ...['session:end', 'write:pointer-set', 'write:block-sent', 'write:block-written', 'leave:asked', 'leave:left'],
      ...['send:leased', 'send:answered'],
      ...both('openRun', 'beginAttempt', 'saveBackup', 'prepareWrite', 'markWriting', 'markVerified', 'leaseSend'),
      ...both('recordAccepted', 'markLeft', 'settleRow', 'finishRun'),
    ],
  },
  {
    name: 'a re-key of which the cloud says nothing clear',
    job: 'rekey',
    cloud: 'status:503',
    row: { outcome: 'pass', code: null, cloud: 'pending' },
    exitCode: 4,
    keys: 1,
    rewrites: 1,
    points: [
      ...both('recordUnknown', 'markLeftToOutbox', 'markLeft'),
      ...['leave:left', 'session:end', 'record:settleRow:performed'],
    ],
  },
  {
    name: 'a re-key that the cloud refuses',
    job: 'rekey',
    cloud: 'status:403',
    row: { outcome: 'refused', code: 'CLOUD_REFUSED', cloud: 'refused' },
    exitCode: 3,
    keys: 1,
    rewrites: 2,
    points: [
      ...both('recordRefused', 'markRollingBack', 'markRolledBack', 'settleRow'),
      ...['write:pointer-set@2', 'write:block-sent@2', 'write:block-written@2'],
    ],
    // Nobody knows what the cloud answered to the process that died.
    otherwise: { 'record:recordRefused:performed': { row: { code: 'CLOUD_KEY_UNCERTAIN' }, keys: 2 } },
  },
  {
    name: 'a re-key that the cloud refuses after it has stored the key',
    job: 'rekey',
    cloud: 'refuse-after-store',
    row: { outcome: 'refused', code: 'CLOUD_REFUSED', cloud: 'refused' },
    exitCode: 3,
    keys: 2, // the old one is on record as restored
    rewrites: 2,
    points: ['record:markRolledBack:committed', 'send:leased@2', 'send:answered@2', 'record:recordRefused:committed@2'],
  },
  {
    name: 'a new server address',
    job: 'server-key',
    cloud: null,
    row: { outcome: 'pass', code: null, cloud: 'none' },
    exitCode: 0,
    keys: 0,
    rewrites: 1,
    points: [
      ...steps('write', 'verify', 'leave'),
      ...both('prepareWrite', 'markWriting', 'markVerified', 'markLeft'),
      ...['write:block-sent', 'write:block-written', 'leave:asked', 'leave:left', 'session:end'],
      'record:settleRow:performed',
    ],
  },
  {
    name: 'a first provisioning',
    job: 'provision',
    cloud: null,
    row: { outcome: 'pass', code: null, cloud: 'accepted' },
    exitCode: 0,
    keys: 1,
    rewrites: 1,
    points: [
      ...steps('claim-code', 'add-to-product', 'name'),
      ...['call:leased', 'call:answered'],
      ...both('queueCall', 'leaseCall', 'recordCallDone'),
    ],
  },
  {
    name: 'a re-key whose device is asked after',
    job: './confirm.yaml',
    cloud: null,
    row: { outcome: 'pass', code: null, cloud: 'pending' },
    exitCode: 4,
    keys: 1,
    rewrites: 1,
    points: ['step:confirm-online'],
  },
  {
    name: 'a backup',
    job: 'backup',
    cloud: null,
    row: { outcome: 'pass', code: null, cloud: 'none' },
    exitCode: 0,
    keys: 0,
    rewrites: 0,
    points: [...steps('backup'), ...both('saveBackup', 'settleRow', 'finishRun'), 'session:end'],
  },
];

/** Each with so many points at most, since a station's points are tried one after the other. */
const MOST_POINTS = 13;
const STANDS = SCENARIOS.flatMap(scenario =>
  Array.from({ length: Math.ceil(scenario.points.length / MOST_POINTS) }, (_, part) => ({
    ...scenario,
    name: `${scenario.name}, from ${scenario.points[part * MOST_POINTS]!} on`,
    points: scenario.points.slice(part * MOST_POINTS, (part + 1) * MOST_POINTS),
  })),
);
const CASES = STANDS.flatMap(scenario => scenario.points.map(point => ({ scenario, point })));
/** Those whose points are processes of minutes; a machine may be four times slower. */
const LONG_MS = 600_000;
const MEDIUM_MS = 240_000;

let bench: Bench;
let cloud: VirtualCloud;
let next = CASES.length;

beforeAll(async () => {
  bench = new Bench();
  const confirm = ['identify', 'preflight', 'backup', 'new-key', 'write', 'verify', 'send', 'confirm-online', 'leave'];
  bench.file('confirm.yaml', ['name: confirm', 'steps:', ...confirm.map(step => `  - ${step}`), ''].join('\n'));
  cloud = await startVirtualCloud({ handshake: true });
  const faults = CASES.flatMap(({ scenario }, n) =>
    scenario.cloud === null ? [] : [parseCloudFault(`device:${simulatedId(n + 1)}:${scenario.cloud}`)],
  );
  cloud.setFaults(faults);
}, MEDIUM_MS);

afterAll(async () => {
  await cloud.close();
  await bench[Symbol.asyncDispose]();
}, MEDIUM_MS);

interface StandDevice {
  readonly deviceId: DeviceId;
  /** In its rack, from 1. */
  readonly index: number;
  readonly firstKey: string | null;
}

/** A station of its own with a rack of its own: what is shared is the cloud alone. */
class Stand implements AsyncDisposable {
  readonly folder: string;
  readonly devices: readonly StandDevice[];
  readonly #rack: Served;
  #before: ReadonlySet<string> = new Set();

  private constructor(folder: string, rack: Served, ids: readonly DeviceId[]) {
    this.folder = folder;
    this.#rack = rack;
    this.devices = ids.map((deviceId, n) => ({ deviceId, index: n + 1, firstKey: this.keyIn(n + 1) }));
  }

  /** @param first the number of its first device among those of all stands */
  static async open(first: number, count = 1): Promise<Stand> {
    const folder = bench.path(`stand-${first}`);
    mkdirSync(folder);
    const ids = Array.from({ length: count }, (_, n) => simulatedId(first + n + 1));
    const manifest = join(folder, 'rack.csv');
    writeFileSync(
      manifest,
      ['device_id,name,product_id', ...ids.map(id => `${id},N-${id.slice(-4)},4711`), ''].join('\n'),
    );
    const flags = ['--state', join(folder, 'rack'), '--ids', manifest, '--count', String(count), '--hubs', '1'];
    const rack = await bench.serve(['rack', ...flags, '--write-ms', '5', '--listen', '127.0.0.1:0']);
    return new Stand(folder, rack, ids);
  }

  dctIn(index: number): ReturnType<typeof dctInFolder> {
    return dctInFolder(join(this.folder, 'rack'), index);
  }

  keyIn(index: number): string | null {
    const { dct } = this.dctIn(index);
    return classifyPrivateKey(dct.subarray(34, 34 + 1216)).publicKey?.fingerprint ?? null;
  }

  get device(): StandDevice {
    return this.devices[0]!;
  }

  async cli(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended & { signal: string | null }> {
    const child = bench.start(args, {
      XDG_RUNTIME_DIR: this.folder,
      PARTICLE_ACCESS_TOKEN: 'a-token-of-the-tests',
      PHOTON_FLEET_CLOUD_URL: cloud.url,
      PHOTON_FLEET_DB: join(this.folder, 'fleet.db'),
      PHOTON_FLEET_SERVER_HOST: 'one.example.com',
      ...env,
    });
    let stdout = '';
    let stderr = '';
    child.stdout?.on('data', (piece: Buffer) => (stdout += piece.toString()));
    child.stderr?.on('data', (piece: Buffer) => (stderr += piece.toString()));
    const code = await closed(child);
    return { code, stdout, stderr, signal: child.signalCode };
  }

  run(job: string, env: NodeJS.ProcessEnv = {}, ...more: string[]): ReturnType<Stand['cli']> {
    const manifest = join(this.folder, 'rack.csv');
    return this.cli(
      ['run', manifest, '--job', job, '--rack', this.#rack.address, '--wait', '20', '--json', ...more],
      env,
    );
  }

  /** The process dies at the point; what it has recorded is remembered. */
  async killed(point: string, how: (env: NodeJS.ProcessEnv) => ReturnType<Stand['cli']>): Promise<void> {
    const { signal, stderr } = await how({ [FAIL_VARIABLE]: point });
    expect({ signal, stderr: signal === 'SIGKILL' ? '' : stderr }).toEqual({ signal: 'SIGKILL', stderr: '' });
    await this.expectWhole();
    this.#before = recorded(join(this.folder, 'fleet.db'));
  }

  /** A, B and C hold now. */
  async expectWhole(): Promise<void> {
    const db = join(this.folder, 'fleet.db');
    const identity = await readIdentity(identityFileOf(db));
    if (!identity) throw new Error('the station has no identity');
    const vault = vaultOf(identity);
    const witnesses = this.devices.map(({ deviceId, index, firstKey }) => ({
      deviceId,
      firstKey,
      dct: this.dctIn(index).dct,
      told: cloud.keysOf(deviceId).map(({ fingerprint }) => fingerprint),
      maxInFlight: cloud.maxInFlight(deviceId),
    }));
    expect(await breaches(db, vault, witnesses)).toEqual([]);
    expect(lost(this.#before, recorded(db))).toEqual([]);
  }

  /** Fingerprints of a device's keys on record, oldest first. */
  keys(deviceId: DeviceId): string[] {
    const db = new Database(join(this.folder, 'fleet.db'), { readonly: true });
    try {
      return db
        .prepare<[string], string>('SELECT fingerprint FROM keys WHERE device_id = ? ORDER BY generation')
        .pluck()
        .all(deviceId);
    } finally {
      db.close();
    }
  }

  prepared(): { fingerprint: string; taken: number }[] {
    const db = new Database(join(this.folder, 'fleet.db'), { readonly: true });
    try {
      return db
        .prepare<[], { fingerprint: string; taken: number }>(
          'SELECT fingerprint, taken_at IS NOT NULL AS taken FROM prepared_keys ORDER BY id',
        )
        .all();
    } finally {
      db.close();
    }
  }

  /** The cloud and what lies in the folder stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#rack.child.kill('SIGKILL');
    await exit(this.#rack.child);
  }
}

describe.concurrent('killed at each of its points, one device for each, and finished by one run', () => {
  test.each(STANDS)('$name', { timeout: LONG_MS }, async scenario => {
    const first = CASES.findIndex(one => one.scenario === scenario);
    await using stand = await Stand.open(first, scenario.points.length);
    const before = stand.devices.map(({ index }) => stand.dctIn(index).sequence);
    for (const [n, point] of scenario.points.entries()) {
      await stand.killed(point, env => stand.run(scenario.job, env, '--only', stand.devices[n]!.deviceId));
    }
    const ended = await stand.run(scenario.job);
    await stand.expectWhole();
    const rows = jsonLines(ended.stdout).filter(({ type }) => type === 'device');
    // The old key that the cloud is to be told again may still wait in the outbox.
    if (scenario.cloud === 'refuse-after-store') await stand.cli(['replay', '--now']);
    const found = scenario.points.map((point, n) => {
      const { deviceId, index } = stand.devices[n]!;
      const row = rows.find(one => one['deviceId'] === deviceId);
      const { outcome, code, cloud: told, message } = row ?? {};
      const earlier = outcome === 'skipped' && message === `settled earlier: ${String(scenario.row['outcome'])}`;
      const { sequence } = stand.dctIn(index);
      return {
        point,
        row: earlier ? scenario.row : { outcome, code, cloud: told },
        keys: stand.keys(deviceId).length,
        rewrites: sequence - before[n]!,
      };
    });
    const expected = scenario.points.map(point => {
      const otherwise = scenario.otherwise?.[point];
      const { row, keys, rewrites } = scenario;
      return { point, row: { ...row, ...otherwise?.row }, keys: otherwise?.keys ?? keys, rewrites };
    });
    expect(found).toEqual(expected);
    expect(ended.code).toBe(scenario.exitCode);
    if (scenario.job === 'provision') {
      for (const { deviceId, index } of stand.devices) {
        expect([cloud.nameOf(deviceId), cloud.productOf(deviceId)]).toEqual([`N-${deviceId.slice(-4)}`, '4711']);
        const there = stand.dctIn(index).dct.toString('latin1', 1762, 1825);
        expect(cloud.claimCodes.map(({ code }) => code)).toContain(there);
      }
    }
    if (scenario.job !== 'rekey') return;
    for (const { deviceId, index, firstKey } of stand.devices) {
      expect(stand.keyIn(index)).toBe(scenario.row['outcome'] === 'pass' ? stand.keys(deviceId)[0] : firstKey);
      if (scenario.cloud === null || scenario.cloud === 'refuse-after-store') {
        expect(cloud.currentFingerprint(deviceId)).toBe(stand.keyIn(index));
      }
    }
  });
});

const PROVEN_JOB = `name: proven
description: A new key and another server
steps: [identify, preflight, backup, new-key, { write: { server-key: config } }, verify, send, prove, leave]
`;

describe.concurrent('beside a run, killed at', () => {
  test.each([...both('leaseSend', 'recordAccepted'), 'send:leased', 'send:answered'])(
    '%s, a replay is finished by the next one',
    { timeout: MEDIUM_MS },
    async point => {
      await using stand = await Stand.open((next += 1) - 1);
      await stand.run('rekey', {}, '--offline');
      await stand.killed(point, env => stand.cli(['replay'], env));
      const ended = await stand.cli(['replay', '--json']);
      await stand.expectWhole();
      const left = point === 'record:recordAccepted:committed' ? 0 : 1;
      expect(JSON.parse(ended.stdout)).toEqual({ accepted: left, pending: 0, refused: 0, superseded: 0 });
      expect(ended.code).toBe(0);
      expect(cloud.currentFingerprint(stand.device.deviceId)).toBe(stand.keyIn(stand.device.index));
    },
  );

  test.each(both('abandonWrite'))(
    '%s, a job that says something else by now is begun anew',
    { timeout: MEDIUM_MS },
    async point => {
      await using stand = await Stand.open((next += 1) - 1);
      const other = { PHOTON_FLEET_SERVER_HOST: 'two.example.com' };
      await stand.killed('write:pointer-set', env => stand.run('server-key', env));
      await stand.killed(point, env => stand.run('server-key', { ...other, ...env }));
      const ended = await stand.run('server-key', other);
      await stand.expectWhole();
      expect(ended.code).toBe(0);
      const { dct } = stand.dctIn(stand.device.index);
      expect(dct.toString('latin1', 2082 + 386, 2082 + 401)).toBe('two.example.com');
    },
  );

  test.each([...both('takePreparedKey'), 'record:prepareWrite:performed', 'write:block-sent'])(
    '%s, a run with prepared key pairs gives no two devices one of them',
    { timeout: MEDIUM_MS },
    async point => {
      await using stand = await Stand.open((next += 2) - 2, 2);
      await stand.cli(['keys', 'prepare', '--count', '3']);
      const prepared = stand.prepared();
      await stand.killed(point, env => stand.run('rekey', env, '--only', stand.device.deviceId));
      const ended = await stand.run('rekey');
      expect(ended.code).toBe(0);
      await stand.expectWhole();
      const used = stand.devices.flatMap(({ deviceId }) => stand.keys(deviceId));
      expect(new Set(used).size).toBe(used.length);
      const taken = new Map(stand.prepared().map(one => [one.fingerprint, one.taken]));
      for (const fingerprint of used) expect(taken.get(fingerprint)).toBe(1);
      expect(prepared.map(({ taken: was }) => was)).toEqual([0, 0, 0]);
    },
  );

  test.each(['step:prove', ...both('recordProofRefused')])(
    '%s, a key is proven or taken back by the next run',
    { timeout: MEDIUM_MS },
    async point => {
      await using stand = await Stand.open((next += 1) - 1);
      const { port, serverKey } = cloud.handshake!;
      const isRight = point === 'step:prove';
      const [job, key] = [join(stand.folder, 'job.yaml'), join(stand.folder, 'server.der')];
      writeFileSync(job, PROVEN_JOB);
      writeFileSync(key, isRight ? serverKey : await defaultServerKey());
      const server = {
        PHOTON_FLEET_SERVER_KEY: key,
        PHOTON_FLEET_SERVER_HOST: '127.0.0.1',
        PHOTON_FLEET_SERVER_PORT: String(port),
      };
      await stand.killed(point, env => stand.run(job, { ...server, ...env }));
      const ended = await stand.run(job, server);
      await stand.expectWhole();
      const { deviceId, index, firstKey } = stand.device;
      expect(jsonLines(ended.stdout).filter(({ type }) => type === 'device')).toMatchObject([
        isRight ? { outcome: 'pass', message: null } : { outcome: 'refused', code: 'HANDSHAKE_REFUSED' },
      ]);
      expect(stand.keyIn(index)).toBe(isRight ? stand.keys(deviceId)[0] : firstKey);
      expect(cloud.currentFingerprint(deviceId)).toBe(stand.keyIn(index));
    },
  );

  test.each(both('addPreparedKeys'))('%s, more key pairs are prepared', { timeout: MEDIUM_MS }, async point => {
    await using stand = await Stand.open((next += 1) - 1);
    await stand.cli(['keys', 'prepare', '--count', '1']);
    await stand.killed(point, env => stand.cli(['keys', 'prepare', '--count', '2'], env));
    const ended = await stand.cli(['keys', 'prepare', '--count', '1', '--json']);
    expect(JSON.parse(ended.stdout)).toEqual({ made: 1, prepared: point.endsWith('performed') ? 2 : 4 });
    await stand.expectWhole();
  });

  test.each(both('releaseDevice'))('%s, a release is whole or was never made', { timeout: MEDIUM_MS }, async point => {
    await using stand = await Stand.open((next += 1) - 1);
    const { deviceId } = stand.device;
    await stand.run('rekey', { PHOTON_FLEET_QUARANTINE_AFTER: '1', PHOTON_FLEET_CLOUD_URL: 'http://127.0.0.1:9' });
    await stand.killed(point, env => stand.cli(['release', deviceId], env));
    expect((await stand.cli(['release', deviceId])).code).toBe(0);
    await stand.expectWhole();
  });
});

test('every fail point is tried', () => {
  const tried = new Set(CASES.map(({ point }) => point.replace(/@\d+$/, '')));
  for (const point of both('abandonWrite', 'releaseDevice', 'addPreparedKeys', 'takePreparedKey')) tried.add(point);
  for (const point of ['step:prove', ...both('recordProofRefused')]) tried.add(point);
  for (const point of FAIL_POINTS) if (/:(noteWorking|beginRewrap|resealPage|endRewrap)/.test(point)) tried.add(point); // vault.test.ts
  for (const point of FAIL_POINTS)
    if (/^flash:|step:firmware|:(noteModules|beginFlash|endFlash):/.test(point)) tried.add(point); // firmware.test.ts
  expect(FAIL_POINTS.filter(point => !tried.has(point))).toEqual([]);
});
