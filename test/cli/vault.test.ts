import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { proveJournal } from '#src/cli/audit-verify.ts';
import { checkAll } from '#src/cli/check-record.ts';
import { FAIL_VARIABLE } from '#src/core/fail-points.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { parseCloudFault, startVirtualCloud, type VirtualCloud } from '#src/sim/virtual-cloud.ts';
import { Store } from '#src/store/store.ts';
import { age, ageKeygen } from '../support/age.ts';
import { Bench, closed, csvOf, jsonLines, type Ended, type Served } from '../support/cli.ts';
import { dctInFolder } from '../support/flash-file.ts';
import { modeOf } from '../support/temp-folder.ts';

interface Sealed {
  readonly what: string;
  readonly sealed: Buffer;
  readonly sealedSha256: string;
  readonly plainSha256: string | null;
}

function sealedIn(db: string): Sealed[] {
  const record = new Database(db, { readonly: true });
  try {
    return record
      .prepare<[], Sealed>(
        `SELECT 'key ' || id AS what, sealed_private AS sealed, sealed_sha256 AS sealedSha256, NULL AS plainSha256 FROM keys
          UNION ALL SELECT 'backup ' || id, sealed, sealed_sha256, sha256 FROM backups`,
      )
      .all();
  } finally {
    record.close();
  }
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const manifestOf = (count: number): string =>
  csvOf(Array.from({ length: count }, (_, n) => ({ deviceId: (0x2000 + n).toString(16).padStart(24, '0') })));

/** Whether `age` opens all of it, and every backup has the bytes that were hashed. */
function opensAll(db: string, identity: string): boolean {
  return sealedIn(db).every(({ sealed, sealedSha256, plainSha256 }) => {
    expect(sha256(sealed)).toBe(sealedSha256);
    const plain = age(['-d', '-i', identity], sealed);
    if (!plain) return false;
    const [magic, about] = plain.toString('latin1').split('\n', 2);
    expect(magic).toBe('photon-fleet sealed 1');
    const { purpose } = JSON.parse(about!) as { purpose: string };
    expect(purpose).toBe(plainSha256 === null ? 'private-key' : 'backup');
    const bytes = plain.subarray(magic!.length + about!.length + 2);
    if (plainSha256 !== null) expect(sha256(bytes)).toBe(plainSha256);
    return true;
  });
}

/** The identities that a thief of the station would find. */
function identitiesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter(entry => entry.isFile() && readFileSync(join(folder, entry.name)).includes('AGE-SECRET-KEY-'))
    .map(({ name }) => name);
}

/** A station with three identities that lie elsewhere. */
class Station implements AsyncDisposable {
  readonly bench = new Bench();
  readonly db = this.bench.path('fleet.db');
  readonly recipients = ['one', 'two', 'three'].map(name => ageKeygen(this.identity(name)));

  identity(name: string): string {
    mkdirSync(this.bench.path('safe'), { recursive: true });
    return this.bench.path(`safe/${name}.txt`);
  }

  get escrow(): string[] {
    return ['--policy', 'escrow', '--recipient', this.recipients[0]!, '--recipient', this.recipients[1]!];
  }

  cli(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
    return this.bench.run(args, { PHOTON_FLEET_DB: this.db, ...env });
  }

  run(count: number, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
    this.bench.file('rack.csv', manifestOf(count));
    return this.cli(['run', 'rack.csv', '--sim', String(count)], env);
  }

  ownIdentities(): string[] {
    return identitiesIn(this.bench.folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bench[Symbol.asyncDispose]();
  }
}

describe('what a run has sealed', () => {
  test('is opened by `age` with the identity of the station, under `local`', async () => {
    await using station = new Station();
    expect((await station.run(2)).code).toBe(0);
    expect(sealedIn(station.db)).toHaveLength(4);
    expect(opensAll(station.db, station.bench.path('fleet.identity'))).toBe(true);
    expect(station.ownIdentities()).toEqual(['fleet.identity']);
    const status = await station.cli(['vault', 'status', '--json']);
    expect(JSON.parse(status.stdout)).toMatchObject({ policy: 'local', keys: 2, backups: 2, working: [], opens: true });
  });

  test('is opened by `age` with each of the recipients, and by nothing of the station, under `escrow`', async () => {
    await using station = new Station();
    const init = await station.cli(['vault', 'init', ...station.escrow]);
    expect({ code: init.code, stdout: init.stdout }).toEqual({
      code: 0,
      stdout: `${station.db}: the vault is \`escrow\` to ${station.recipients.slice(0, 2).join(', ')}\n`,
    });
    expect((await station.run(2)).code).toBe(0);
    expect(sealedIn(station.db)).toHaveLength(4);
    expect(opensAll(station.db, station.identity('one'))).toBe(true);
    expect(opensAll(station.db, station.identity('two'))).toBe(true);
    expect(sealedIn(station.db).some(({ sealed }) => age(['-d', '-i', station.identity('three')], sealed))).toBe(false);
    expect(station.ownIdentities()).toEqual([]);
    const check = await station.cli(['db', 'check']);
    expect({ code: check.code, stderr: check.stderr }).toEqual({
      code: 0,
      stderr:
        'this station seals and can’t open (policy `escrow`): what is sealed was compared with its hash, and not opened\n',
    });
    expect((await station.cli(['doctor'])).stdout).toContain(
      '`escrow` to 2 recipients: this station seals and can’t open',
    );
  });

  test('is opened by nobody once the run is over, under `none`', async () => {
    await using station = new Station();
    expect((await station.run(2, { PHOTON_FLEET_VAULT_POLICY: 'none' })).code).toBe(0);
    expect(sealedIn(station.db)).toHaveLength(4);
    expect(station.ownIdentities()).toEqual([]);
    const check = await station.cli(['db', 'check']);
    expect({ code: check.code, stderr: check.stderr }).toMatchObject({ code: 0 });
    const rewrap = await station.cli(['vault', 'rewrap', '--policy', 'local']);
    expect({ code: rewrap.code, stderr: rewrap.stderr }).toEqual({
      code: 2,
      stderr:
        'error: what is sealed in this database can’t be opened by anybody: private keys were not kept [VAULT_POLICY]\n' +
        'hint: begin a new database for the other policy: `photon-fleet vault init --db FILE`\n',
    });
  });

  test('in the row of another device is found by `db check` and by a rewrap, which changes nothing', async () => {
    await using station = new Station();
    expect((await station.run(2)).code).toBe(0);
    swapBackups(station.db);
    const before = sealedIn(station.db);
    const check = await station.cli(['db', 'check']);
    expect(check.code).toBe(7);
    expect(check.stdout).toMatch(/backup 1 of [0-9a-f]{24}: a sealed item of device [0-9a-f]{24} is another one's/);
    const rewrap = await station.cli(['vault', 'rewrap', ...station.escrow]);
    expect({ code: rewrap.code, stdout: rewrap.stdout }).toEqual({ code: 7, stdout: '' });
    expect(rewrap.stderr).toContain('[VAULT_SEALED_WRONG]');
    expect(sealedIn(station.db)).toEqual(before);
  });

  test('and was changed on the disk is found by its hash where the station can’t open it', async () => {
    await using station = new Station();
    await station.cli(['vault', 'init', ...station.escrow]);
    expect((await station.run(1)).code).toBe(0);
    const record = new Database(station.db);
    record.exec(
      `DROP TRIGGER keys_sealed_anew; UPDATE keys SET sealed_private = CAST(x'00' || sealed_private AS BLOB)`,
    );
    record.close();
    const check = await station.cli(['db', 'check']);
    expect(check.code).toBe(7);
    expect(check.stdout).toContain('a sealed private key other than that of its hash: 000000000000000000002000');
  });
});

function swapBackups(db: string): void {
  const record = new Database(db);
  const [one, two] = record
    .prepare<[], { sealed: Buffer; hash: string }>('SELECT sealed, sealed_sha256 AS hash FROM backups ORDER BY id')
    .all();
  const change = record.prepare('UPDATE backups SET sealed = ?, sealed_sha256 = ? WHERE id = ?');
  change.run(two!.sealed, two!.hash, 1);
  change.run(one!.sealed, one!.hash, 2);
  record.close();
}

describe('a configuration that does not fit', () => {
  test.each([
    ['has no recipient', {}, 'the policy `escrow` has no recipient to seal to', 'VAULT_RECIPIENT'],
    ['has a recipient with a wrong checksum', { at: 1 }, 'recipient 2 of 2 is no age recipient', 'VAULT_RECIPIENT'],
  ])('with the policy `escrow` %s: nothing is touched', async (_, { at }: { at?: number }, message, code) => {
    await using station = new Station();
    const recipients = at === undefined ? [] : station.recipients.slice(0, 2);
    if (at !== undefined)
      recipients[at] = recipients[at]!.slice(0, -2) + (recipients[at]!.endsWith('qq') ? 'pp' : 'qq');
    const env = { PHOTON_FLEET_VAULT_POLICY: 'escrow', PHOTON_FLEET_VAULT_RECIPIENTS: recipients.join(',') };
    const ended = await station.run(1, recipients.length > 0 ? env : { PHOTON_FLEET_VAULT_POLICY: 'escrow' });
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr.split('\n')[0]).toBe(`error: ${message} [${code}]`);
    expect(readdirSync(station.bench.folder).filter(name => name.startsWith('fleet'))).toEqual([]);
  });

  test('names recipients that the policy `local` would not use', async () => {
    await using station = new Station();
    const ended = await station.run(1, { PHOTON_FLEET_VAULT_RECIPIENTS: station.recipients.join(',') });
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain("recipients are named, and the vault's policy is `local` [VAULT_RECIPIENT]");
  });

  test('has one recipient only: a warning, and the run goes on', async () => {
    await using station = new Station();
    const env = { PHOTON_FLEET_VAULT_POLICY: 'escrow', PHOTON_FLEET_VAULT_RECIPIENTS: station.recipients[0]! };
    const ended = await station.run(1, env);
    expect(ended.code).toBe(0);
    expect(ended.stderr).toContain(
      'warning: everything is sealed to one recipient: if its identity is lost, so is everything; name two\n',
    );
  });

  test('says another policy or other recipients than the database was sealed with', async () => {
    await using station = new Station();
    await station.cli(['vault', 'init', ...station.escrow]);
    expect((await station.run(1)).code).toBe(0);
    const before = sealedIn(station.db);
    const [one, two, three] = station.recipients;
    for (const env of [
      { PHOTON_FLEET_VAULT_POLICY: 'local' },
      { PHOTON_FLEET_VAULT_POLICY: 'none' },
      { PHOTON_FLEET_VAULT_RECIPIENTS: `${one},${three}` },
      { PHOTON_FLEET_VAULT_POLICY: 'escrow', PHOTON_FLEET_VAULT_RECIPIENTS: `${one},${two},${three}` },
    ]) {
      const ended = await station.run(2, env);
      expect({ ...ended, stderr: ended.stderr.slice(-400) }).toMatchObject({ code: 2, stdout: '' });
      expect(ended.stderr).toMatch(
        /this database's vault is `escrow` to .*, and the configuration says .*VAULT_POLICY/,
      );
    }
    expect(sealedIn(station.db)).toEqual(before);
    expect((await station.run(2, { PHOTON_FLEET_VAULT_RECIPIENTS: `${two},${one}` })).code).toBe(0); // as a set
  });
});

describe('a rewrap', () => {
  test('goes from `local` to `escrow`, and says what is left to do by hand', async () => {
    await using station = new Station();
    expect((await station.run(2)).code).toBe(0);
    const ended = await station.cli(['vault', 'rewrap', ...station.escrow]);
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain('4 keys and backups are sealed anew; the vault is `escrow` to ');
    expect(ended.stderr).toContain(`remove the old identity file ${station.bench.path('fleet.identity')} by hand`);
    expect(opensAll(station.db, station.identity('two'))).toBe(true);
    expect(
      sealedIn(station.db).some(({ sealed }) => age(['-d', '-i', station.bench.path('fleet.identity')], sealed)),
    ).toBe(false);
    expect((await station.cli(['doctor'])).stdout).toContain('the identity of another policy lies in');
    expect((await station.cli(['audit', 'verify'])).code).toBe(0);
  });

  test('goes from `escrow` to `local` with the identity of a recipient, and with no other one', async () => {
    await using station = new Station();
    await station.cli(['vault', 'init', ...station.escrow]);
    expect((await station.run(2)).code).toBe(0);
    const before = sealedIn(station.db);
    const to = ['--policy', 'local'];
    for (const [args, code] of [
      [to, 'VAULT_CLOSED'],
      [['--identity', station.identity('three'), ...to], 'VAULT_IDENTITY'],
      [['--identity', station.identity('none'), ...to], 'VAULT_IDENTITY'],
      [['--identity', station.bench.file('notes.txt', 'AGE-SECRET-KEY-1HUNTER2\n'), ...to], 'VAULT_IDENTITY'],
    ] as const) {
      const ended = await station.cli(['vault', 'rewrap', ...args]);
      expect(ended).toMatchObject({ code: 2, stdout: '' });
      expect(ended.stderr).toContain(`[${code}]`);
      expect(ended.stderr).not.toContain('HUNTER2');
    }
    expect(sealedIn(station.db)).toEqual(before);
    rmSync(station.bench.path('notes.txt'));
    expect(station.ownIdentities()).toEqual([]);
    const ended = await station.cli(['vault', 'rewrap', '--identity', station.identity('two'), ...to]);
    expect(ended.code).toBe(0);
    expect(opensAll(station.db, station.bench.path('fleet.identity'))).toBe(true);
    expect((await station.cli(['db', 'check'])).stdout).toContain('and so is all that is sealed in it (4 items)');
  });

  test('that is killed at each of its points goes on there, and nothing else is done in between', async () => {
    await using station = new Station();
    expect((await station.run(70)).code).toBe(0); // more than a page of each
    const both = (name: string): string[] => [`record:${name}:performed`, `record:${name}:committed`];
    for (const point of [
      ...both('beginRewrap'),
      ...both('resealPage'),
      'record:resealPage:committed@2',
      ...both('endRewrap'),
    ]) {
      const ended = await station.cli(['vault', 'rewrap', ...station.escrow], { [FAIL_VARIABLE]: point });
      expect({ point, code: ended.code }).toEqual({ point, code: null });
      if (point !== 'record:resealPage:committed') continue;
      const run = await station.run(70);
      expect(run.code).toBe(2);
      expect(run.stderr).toContain('was begun and has not come to its end [VAULT_POLICY]');
      const other = await station.cli(['vault', 'rewrap', '--policy', 'escrow', '--recipient', station.recipients[2]!]);
      expect(other).toMatchObject({ code: 2, stdout: '' });
      expect((await station.cli(['db', 'check'])).code).toBe(0);
    }
    const status = await station.cli(['vault', 'status', '--json']);
    expect(JSON.parse(status.stdout)).toMatchObject({ policy: 'escrow', rewrap: null, keys: 70, backups: 70 });
    expect(opensAll(station.db, station.identity('two'))).toBe(true);
    expect((await station.cli(['audit', 'verify'])).code).toBe(0);
  });
});

/** Each a device of its own, killed there under each policy, and finished by the next process. */
const CUTS = [
  { point: 'write:pointer-set', cloud: null, outcome: 'pass', both: true },
  { point: 'step:verify', cloud: null, outcome: 'pass', both: false },
  { point: 'record:noteWorkingIdentity:committed', cloud: null, outcome: 'pass', both: false },
  { point: 'record:noteWorkingIdentity:performed', cloud: null, outcome: 'pass', both: false },
  { point: 'record:markRollingBack:committed', cloud: 'status:403', outcome: 'refused', both: true },
  { point: 'write:block-sent@2', cloud: 'status:403', outcome: 'refused', both: false },
  { point: 'record:noteWorkingIdentityDestroyed:performed', cloud: null, outcome: 'pass', both: false },
  { point: 'record:noteWorkingIdentityDestroyed:committed', cloud: null, outcome: 'pass', both: false },
] as const;
const POLICIES = ['escrow', 'none'] as const;
const STATIONS = POLICIES.flatMap(policy =>
  CUTS.filter(({ both }) => both || policy === 'escrow').map(cut => ({ policy, ...cut })),
);
const LOST = STATIONS.length;

describe('what a killed run has begun', () => {
  let bench: Bench;
  let cloud: VirtualCloud;
  let rack: Served;

  beforeAll(async () => {
    bench = new Bench();
    rack = await bench.serve([
      'rack',
      '--state',
      'rack',
      '--count',
      String(STATIONS.length + 1),
      '--write-ms',
      '5',
      '--listen',
      '127.0.0.1:0',
    ]);
    cloud = await startVirtualCloud();
    cloud.setFaults(
      STATIONS.flatMap(({ cloud: fault }, n) =>
        fault === null ? [] : [parseCloudFault(`device:${rack.devices[n]!.deviceId}:${fault}`)],
      ),
    );
  });

  afterAll(async () => {
    await cloud.close();
    await bench[Symbol.asyncDispose]();
  });

  const keyOn = (n: number): string | undefined =>
    classifyPrivateKey(dctInFolder(bench.path('rack'), n + 1).dct.subarray(34, 34 + 1216)).publicKey?.fingerprint;

  /** One station with the nth device. */
  function stand(n: number, policy: 'escrow' | 'none') {
    const folder = bench.path(`stand-${n}`);
    const safe = bench.path(`safe-${n}`);
    for (const made of [folder, safe]) mkdirSync(made);
    const recipients = ['one', 'two'].map(name => ageKeygen(join(safe, name)));
    writeFileSync(join(folder, 'rack.csv'), csvOf([rack.devices[n]!]));
    const cli = async (args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
      const child = bench.start(args, {
        XDG_RUNTIME_DIR: folder,
        PARTICLE_ACCESS_TOKEN: 'a-token-of-the-tests',
        PHOTON_FLEET_CLOUD_URL: cloud.url,
        PHOTON_FLEET_DB: join(folder, 'fleet.db'),
        PHOTON_FLEET_VAULT_POLICY: policy,
        ...(policy === 'escrow' && { PHOTON_FLEET_VAULT_RECIPIENTS: recipients.join(',') }),
        ...env,
      });
      let stdout = '';
      let stderr = '';
      child.stdout?.on('data', (piece: Buffer) => (stdout += piece.toString()));
      child.stderr?.on('data', (piece: Buffer) => (stderr += piece.toString()));
      await closed(child);
      return { code: child.exitCode, signal: child.signalCode, stdout, stderr };
    };
    return {
      db: join(folder, 'fleet.db'),
      identity: join(safe, 'two'),
      cli,
      run: (env: NodeJS.ProcessEnv = {}, ...more: string[]) =>
        cli(['run', join(folder, 'rack.csv'), '--rack', rack.address, '--wait', '20', '--json', ...more], env),
      working: () =>
        readdirSync(folder)
          .filter(name => name.includes('working'))
          .map(name => join(folder, name)),
      identities: () => identitiesIn(folder),
    };
  }

  test.each(STATIONS.map((station, n) => ({ ...station, n })))(
    'at $point is finished by the next, under `$policy`; after that the station opens nothing',

    async ({ n, policy, point, outcome }) => {
      const { db, run, working, identities } = stand(n, policy);
      const firstKey = keyOn(n);
      const killed = await run({ [FAIL_VARIABLE]: point });
      expect({ signal: killed.signal, stderr: killed.signal ? '' : killed.stderr }).toEqual({
        signal: 'SIGKILL',
        stderr: '',
      });
      if (!point.startsWith('record:noteWorking')) {
        const [file, ...others] = working();
        expect(others).toEqual([]);
        expect(modeOf(file!)).toBe('600');
        expect(opensAll(db, file!)).toBe(true); // by whoever has both, until it is finished
      }
      const ended = await run();
      const row = jsonLines(ended.stdout).find(({ type }) => type === 'device');
      expect(row).toMatchObject(
        point.startsWith('record:noteWorkingIdentityDestroyed') ? { outcome: 'skipped' } : { outcome },
      );
      expect(keyOn(n) === firstKey).toBe(outcome === 'refused');
      expect(working()).toEqual([]);
      expect(identities()).toEqual([]);
      await using store = await Store.open({ path: db, create: false });
      expect(await store.call('workingIdentities', undefined)).toEqual([]);
      expect(await checkAll(store, null)).toEqual([]);
      expect((await proveJournal(store)).problems).toEqual([]);
      if (policy === 'escrow') expect(opensAll(db, bench.path(`safe-${n}/one`))).toBe(true);
    },
  );

  test('can’t be finished without its working identity: the device is left alone until a rewrap gives one', async () => {
    const { run, cli, working, identity } = stand(LOST, 'escrow');
    expect((await run({ [FAIL_VARIABLE]: 'write:pointer-set' })).signal).toBe('SIGKILL');
    rmSync(working()[0]!);
    const { sequence } = dctInFolder(bench.path('rack'), LOST + 1);
    const closed = await run();
    const row = jsonLines(closed.stdout).find(({ type }) => type === 'device');
    expect(row).toMatchObject({ outcome: 'error', code: 'VAULT_CLOSED' });
    expect(closed.code).toBe(3);
    expect(dctInFolder(bench.path('rack'), LOST + 1).sequence).toBe(sequence);
    expect((await cli(['vault', 'rewrap', '--identity', identity])).code).toBe(0);
    expect(working()).toHaveLength(1);
    const ended = await run();
    expect(jsonLines(ended.stdout).find(({ type }) => type === 'device')).toMatchObject({ outcome: 'pass' });
    expect(working()).toEqual([]);
  });
});
