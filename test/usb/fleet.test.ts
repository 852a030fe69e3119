import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bench, csvOf, exit, jsonLines, type Served } from '../support/cli.ts';
import { ageOpen, dfuRead, dfuWrite, eachOf, opensslKey, publicHalfOf, sha256 } from './programs.ts';
import { type Plugged, RackOnKernel } from './rack-on-kernel.ts';

/*
 * photon-fleet with the package `usb` on a real kernel, eighteen virtual Photons on four hubs, and dfu-util as the second
 * opinion. Sixteen are listed, two are not; two more rows have no device. The tests go on where the one before has left off.
 */

const LISTED = 16;
const DCT_BYTES = 8391;
/** What the bootloader may change by itself. */
const FLAGS = 32;
const PRIVATE_KEY = 34;
const KEY_BYTES = 611;
const PUBLIC_KEY = 1250;
const SPKI_BYTES = 162;
const KEY_FIELDS_END = PUBLIC_KEY + 384;
const ABSENT = ['00000000000000000000a001', '00000000000000000000a002'];
const TOKEN = { PARTICLE_ACCESS_TOKEN: 'token-of-the-usb-tests' };

let bench: Bench;
let rack: RackOnKernel;
let cloud: Served;
let manifest: string;
let listed: readonly Plugged[];
let strangers: readonly Plugged[];

/** By device ID. */
const before = new Map<string, Buffer>();
const flashBefore = new Map<string, Record<string, string>>();
const opensslKeys = new Map<string, Buffer>();
const generations = new Map<string, string[]>();

beforeAll(async () => {
  const prepared = process.env['PHOTON_FLEET_USB_RACK'];
  if (!prepared) throw new Error('PHOTON_FLEET_USB_RACK names no prepared rack: these tests are for test/usb/run.sh');
  bench = new Bench();
  rack = await RackOnKernel.of(bench, prepared);
  [listed, strangers] = [rack.devices.slice(0, LISTED), rack.devices.slice(LISTED)];
  manifest = bench.file('rack.csv', csvOf([...listed, ...ABSENT.map(deviceId => ({ deviceId }))]));
  [cloud] = await Promise.all([serveCloud('127.0.0.1:0'), rack.start()]);
  await rack.plugIn(rack.devices);
});

afterAll(async () => {
  await rack.stop();
  await bench[Symbol.asyncDispose]();
});

function serveCloud(listen: string): Promise<Served> {
  return bench.serve(['cloud', '--listen', listen, '--token'], TOKEN);
}

async function photonFleet(args: readonly string[]) {
  return await bench.run([...args, '--db', bench.path('fleet.db')], { ...TOKEN, PHOTON_FLEET_CLOUD_URL: cloud.url });
}

interface CloudKey {
  readonly fingerprint: string;
  readonly publicKey: string;
}

async function cloudKeys(): Promise<Record<string, CloudKey>> {
  const answer = await fetch(`${cloud.url}/v1/sim/keys`);
  return ((await answer.json()) as { devices: Record<string, CloudKey> }).devices;
}

interface BackupRow {
  readonly id: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly sealed: Buffer;
}

function backupsOnRecord(): BackupRow[] {
  return onRecord<BackupRow>('SELECT device_id AS id, sha256, bytes, sealed FROM backups');
}

/** Fingerprints in the order of their generations, by device ID. */
function generationsOnRecord(): Record<string, string[]> {
  const rows = onRecord<{ id: string; all: string }>(
    'SELECT device_id AS id, group_concat(fingerprint) AS "all" FROM ' +
      '(SELECT device_id, fingerprint FROM keys ORDER BY generation) GROUP BY device_id',
  );
  return Object.fromEntries(rows.map(({ id, all }) => [id, all.split(',')]));
}

function onRecord<Row>(query: string): Row[] {
  const db = new Database(bench.path('fleet.db'), { readonly: true });
  try {
    return db.prepare<[], Row>(query).all();
  } finally {
    db.close();
  }
}

/** What dfu-util reads of a device, checked to be a canonical key with its public half beside it. @returns its fingerprint */
async function keyOnDevice({ path }: Plugged): Promise<{ fingerprint: string; pem: string }> {
  const key = await dfuRead(path, PRIVATE_KEY, 612);
  // SEQUENCE of 607 bytes: version 1, and numbers of fixed widths, which always makes 611 bytes.
  expect(key.subarray(0, 4).toString('hex')).toBe('3082025f');
  const spki = publicHalfOf(key.subarray(0, KEY_BYTES));
  expect(spki).toHaveLength(SPKI_BYTES);
  expect((await dfuRead(path, PUBLIC_KEY, SPKI_BYTES)).equals(spki)).toBe(true);
  const lines = spki.toString('base64').match(/.{1,64}/g)!;
  const pem = ['-----BEGIN PUBLIC KEY-----', ...lines, '-----END PUBLIC KEY-----', ''].join('\n');
  return { fingerprint: sha256(spki), pem };
}

async function expectNewestKeyEverywhere(): Promise<void> {
  const told = await cloudKeys();
  await eachOf(listed, async device => {
    const { fingerprint, pem } = await keyOnDevice(device);
    expect(fingerprint).toBe(generations.get(device.deviceId)!.at(-1));
    expect(told[device.deviceId]).toMatchObject({ fingerprint });
    expect(told[device.deviceId]!.publicKey.trim()).toBe(pem.trim());
  });
}

describe('a rack of Photons on a real kernel, with dfu-util as the second opinion:', () => {
  test('dfu-util writes keys that openssl made onto four devices, and reads all that is on all of them', async () => {
    for (const device of [listed[0]!, listed[5]!, listed[10]!, listed[15]!]) {
      const key = await opensslKey();
      await dfuWrite(device.path, PRIVATE_KEY, key);
      opensslKeys.set(device.deviceId, key);
    }
    await eachOf(rack.devices, async ({ deviceId, path }) => {
      before.set(deviceId, await dfuRead(path, 0, DCT_BYTES));
    });
    for (const stranger of strangers) flashBefore.set(stranger.deviceId, await rack.flashOf(stranger));
    for (const [deviceId, key] of opensslKeys) {
      expect(
        before
          .get(deviceId)!
          .subarray(PRIVATE_KEY, PRIVATE_KEY + key.length)
          .equals(key),
      ).toBe(true);
    }
  });

  test('run gives sixteen of eighteen rows a new key, two are unseen, exit 3', async () => {
    const { code, stdout, stderr } = await photonFleet(['run', manifest, '--wait', '5', '--json']);
    const lines = jsonLines(stdout);
    const devices = lines.slice(1, -1);
    expect({ code, stderr, summary: lines.at(-1) }).toMatchObject({
      code: 3,
      summary: { type: 'summary', rows: 18, pass: 16, unseen: 2, fail: 0, error: 0, cloudPending: 0, exitCode: 3 },
    });
    expect(lines[0]).toMatchObject({ type: 'run-started', job: 'rekey', rows: 18, resumed: false });
    expect(devices.map(({ type }) => type)).toEqual(devices.map(() => 'device'));
    const byId = new Map(devices.map(line => [line['deviceId'], line]));
    expect([...byId.keys()].sort()).toEqual([...listed.map(({ deviceId }) => deviceId), ...ABSENT].sort());
    for (const { deviceId, path } of listed) {
      const line = byId.get(deviceId)!;
      expect(line).toMatchObject({ outcome: 'pass', code: null, path, cloud: 'accepted' });
      generations.set(deviceId, [String(line['fingerprint'])]);
    }
    for (const deviceId of ABSENT) expect(byId.get(deviceId)).toMatchObject({ outcome: 'unseen', code: 'NOT_SEEN' });
    expect(devices.slice(-2).map(({ outcome }) => outcome)).toEqual(['unseen', 'unseen']);
  });

  test('age alone opens every backup, and it holds byte for byte what dfu-util read before the run', async () => {
    const rows = backupsOnRecord();
    expect(rows.map(({ id }) => id).sort()).toEqual(listed.map(({ deviceId }) => deviceId).sort());
    await eachOf(rows, async ({ id, sha256: recorded, bytes, sealed }) => {
      const plain = await ageOpen(sealed, bench.path('fleet.identity'));
      const header = plain.indexOf('\n', plain.indexOf('\n') + 1) + 1;
      const dct = plain.subarray(header);
      expect(JSON.parse(plain.subarray(0, header).toString().split('\n')[1]!)).toMatchObject({ deviceId: id });
      expect({ bytes: dct.length, sha256: sha256(dct) }).toEqual({ bytes: DCT_BYTES, sha256: recorded });
      expect(bytes).toBe(DCT_BYTES);
      expect(dct.subarray(FLAGS).equals(before.get(id)!.subarray(FLAGS))).toBe(true);
      const key = opensslKeys.get(id);
      if (key) expect(dct.subarray(PRIVATE_KEY, PRIVATE_KEY + key.length).equals(key)).toBe(true);
    });
  });

  test('dfu-util reads the new keys back, which are those of the run and of the cloud', async () => {
    await rack.cycle();
    await expectNewestKeyEverywhere();
    expect(Object.keys(await cloudKeys()).sort()).toEqual(listed.map(({ deviceId }) => deviceId).sort());
  });

  test('dfu-util finds every other byte of each device as it was', async () => {
    await eachOf(listed, async ({ deviceId, path }) => {
      const [was, is] = [before.get(deviceId)!, await dfuRead(path, 0, DCT_BYTES)];
      expect(is.subarray(FLAGS, PRIVATE_KEY).equals(was.subarray(FLAGS, PRIVATE_KEY))).toBe(true);
      expect(is.subarray(KEY_FIELDS_END).equals(was.subarray(KEY_FIELDS_END))).toBe(true);
    });
  });

  test('the two devices that no row lists have not changed by a byte, as dfu-util and the rack see them', async () => {
    for (const device of strangers) {
      expect((await dfuRead(device.path, 0, DCT_BYTES)).equals(before.get(device.deviceId)!)).toBe(true);
      expect(await rack.flashOf(device)).toEqual(flashBefore.get(device.deviceId));
    }
  });

  test('with the cloud down, run --again re-keys all sixteen and keeps their sends: exit 4', async () => {
    cloud.child.kill('SIGINT');
    await exit(cloud.child);
    const ids = listed.map(({ deviceId }) => deviceId);
    const only = ['--only', ids.join(',')];
    const { code, stdout, stderr } = await photonFleet(['run', manifest, '--again', ...only, '--wait', '5', '--json']);
    const lines = jsonLines(stdout);
    expect({ code, stderr, summary: lines.at(-1) }).toMatchObject({
      code: 4,
      summary: { rows: 16, pass: 16, cloudPending: 16, exitCode: 4 },
    });
    for (const line of lines.slice(1, -1)) {
      expect(line).toMatchObject({ outcome: 'pass', cloud: 'pending' });
      generations.get(String(line['deviceId']))!.push(String(line['fingerprint']));
    }
  });

  test('once the cloud is back, replay --now sends them all: exit 0', async () => {
    cloud = await serveCloud(new URL(cloud.url).host);
    const { code, stdout, stderr } = await photonFleet(['replay', '--now', '--json']);
    expect({ code, stderr, totals: JSON.parse(stdout) as unknown }).toMatchObject({
      code: 0,
      totals: { accepted: 16, pending: 0, refused: 0, superseded: 0 },
    });
    await rack.cycle();
    await expectNewestKeyEverywhere();
  });

  test('history tells both keys of a device, and its two backups, and the record of all of them has the same', async () => {
    expect(generationsOnRecord()).toEqual(Object.fromEntries(generations));
    // A few, since the program takes long to start in emulation: some with dfu-util's keys, some with old bootloaders.
    const some = [0, 2, 5, 7, 15].map(nth => listed[nth]!);
    await eachOf(some, async ({ deviceId }) => {
      const { code, stdout } = await photonFleet(['history', deviceId, '--json']);
      const { keys, backups } = JSON.parse(stdout) as { keys: { fingerprint: string }[]; backups: unknown[] };
      expect(code).toBe(0);
      expect(keys.map(({ fingerprint }) => fingerprint)).toEqual(generations.get(deviceId));
      expect(keys).toMatchObject([
        { generation: 1, state: 'deactivated', cloud: { state: 'accepted' } },
        { generation: 2, state: 'active', cloud: { state: 'accepted' } },
      ]);
      expect(backups).toMatchObject([{ bytes: DCT_BYTES }, { fingerprint: keys[0]!.fingerprint, bytes: DCT_BYTES }]);
    });
  });
});
