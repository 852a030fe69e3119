import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCloudClient } from '../cloud/client.ts';
import { parseDeviceId } from '../core/device-id.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { classifyPrivateKey } from '../photon/classify-key.ts';
import { DCT, fieldOf } from '../photon/dct.ts';
import { ledOf } from '../sim/led.ts';
import { factoryImage, SYSTEM_PART_1, SYSTEM_PART_2 } from '../sim/photon-modules.ts';
import { parseFault } from '../sim/rack-faults.ts';
import { simBus } from '../sim/sim-bus.ts';
import { startVirtualCloud } from '../sim/virtual-cloud.ts';
import type { VirtualCloud } from '../sim/virtual-cloud.ts';
import { createRack } from '../sim/virtual-rack.ts';
import type { VirtualRack } from '../sim/virtual-rack.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import { runManifest } from './run-manifest.ts';

const DEVICES = 24;
const HUBS = 3;
const WRITE_MS = 300;
/** Device OS 0.8.0 or so: new enough to be switched into DFU mode by the service protocol. */
const SYSTEM_VERSION = 304;

/** A third of the rack, ruined as people have reported it. The cloud was given another key for the first two. */
const OTHER_KEY_AT_CLOUD = [3, 14];
const RUINED = [
  '#5:other-server-key',
  '#17:other-server-key',
  '#8:blank-key',
  '#20:misread-key',
  '#11:dct-zeros',
  '#22:dct-zeros',
];

/**
 * `demo`: a rack of which a third is ruined, and the job `repair` that brings all of it back. The manifest, the record and a
 * key store of its own lie in a fresh folder, so that what it leaves can be looked at.
 */
export async function runDemo(args: GlobalArgs, context: CommandContext): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'photon-fleet-demo-'));
  const db = args.db ?? join(folder, 'photon-fleet.db');
  const token = new Secret(randomBytes(16).toString('hex'));
  await using cloud = await startVirtualCloud({ token: token.reveal(), handshake: true });
  const server = cloud.handshake;
  if (!server) throw new Fault('BUG', 'the virtual cloud shakes no hands');
  const names = Array.from({ length: DEVICES }, (_, index) => ({ deviceId: idOf(index), name: nameOf(index) }));
  const rack = await createRack({
    count: DEVICES,
    hubs: HUBS,
    ids: names.map(({ deviceId }) => deviceId),
    writeMs: WRITE_MS,
    boots: true,
    systemVersion: SYSTEM_VERSION,
    faults: RUINED.map(parseFault),
    serverKey: server.serverKey,
    serverAddress: server,
  });
  try {
    await tellKeys(rack, cloud, token);
    const manifest = join(folder, 'rack.csv');
    const rows = names.map(({ deviceId, name }) => `${deviceId},${name}`);
    writeFileSync(manifest, ['device_id,name', ...rows, ''].join('\n'), { mode: 0o600 });
    const config = writeConfig(folder, server.serverKeyPem);
    context.out.talk(
      `a virtual rack: ${DEVICES} Photons on ${HUBS} hubs, and a virtual cloud; the record is real: ${db}`,
    );
    const shown = (): void => {
      for (const line of lights(rack, {
        serverKey: server.serverKey,
        currentFingerprint: id => cloud.currentFingerprint(id),
      })) {
        context.out.result(line);
      }
    };
    context.out.result('before, as their LEDs show it:');
    shown();
    const code = await runManifest(
      {
        ...NOTHING_ELSE,
        ...args,
        manifest,
        db,
        config,
        job: 'repair',
        'enter-dfu': true,
        confirm: 'normal',
        prove: true,
      },
      context,
      {
        buses: [simBus(rack)],
        cloudUrl: cloud.url,
        token,
        server: { key: server.serverKey, host: server.host, port: server.port },
      },
    );
    context.out.result('\nafterwards:');
    shown();
    return code;
  } finally {
    await rack.close();
  }
}

const NOTHING_ELSE = {
  wait: undefined,
  watch: undefined,
  limit: undefined,
  only: undefined,
  'only-compromised': undefined,
  offline: undefined,
  plan: undefined,
  'retry-failed': undefined,
  again: undefined,
  concurrency: undefined,
  'per-hub': undefined,
  'max-fail': undefined,
  'cloud-url': undefined,
  sim: undefined,
  rack: undefined,
  'insecure-rack': undefined,
  json: undefined,
};

function idOf(index: number): DeviceId {
  const hex = createHash('sha256').update(`photon-fleet demo ${index}`).digest('hex').slice(0, 24);
  const id = parseDeviceId(hex);
  if (!id) throw new Fault('BUG', `${hex} is no device ID`);
  return id;
}

/** By hub and place: the rack fills its hubs in turn. */
function nameOf(index: number): string {
  const hub = String.fromCharCode(65 + (index % HUBS));
  return `${hub}-${String(Math.floor(index / HUBS) + 1).padStart(2, '0')}`;
}

/** As it was when these devices were claimed: the cloud has each one's key, or what it was told in its place. */
async function tellKeys(rack: VirtualRack, cloud: VirtualCloud, token: Secret<string>): Promise<void> {
  const client = createCloudClient({ url: cloud.url, token, timeoutMs: 10_000, insecure: false });
  const pems = rack.devices.map(({ photon }) => {
    const { publicKey } = classifyPrivateKey(fieldOf(photon.dct(), DCT.DEVICE_PRIVATE_KEY));
    return publicKey?.pem ?? null;
  });
  const some = pems.find(pem => pem !== null) ?? '';
  await Promise.all(
    rack.devices.map(({ deviceId, index }) => {
      const own = OTHER_KEY_AT_CLOUD.includes(index) ? null : (pems[index - 1] ?? null);
      return client.sendPublicKey({ deviceId, publicKeyPem: own ?? some, productId: null, orderMs: Date.now() });
    }),
  );
}

/** The system parts of the release that the rack runs, and the cloud's server key, as a user would name them. */
function writeConfig(folder: string, serverKeyPem: string): string {
  const file = (name: string, content: string | Uint8Array): string => {
    writeFileSync(join(folder, name), content, { mode: 0o600 });
    return name;
  };
  const part = (address: number): Uint8Array => {
    const sector = Buffer.from(factoryImage('photon', SYSTEM_VERSION).get(address) ?? []);
    return sector.subarray(0, sector.readUInt32LE(4) - address + 4);
  };
  const lines = [
    'firmware:',
    `  systemPart1: ./${file('system-part1.bin', part(SYSTEM_PART_1))}`,
    `  systemPart2: ./${file('system-part2.bin', part(SYSTEM_PART_2))}`,
    'server:',
    `  key: ./${file('server.pub.pem', serverKeyPem)}`,
  ];
  return join(folder, file('config.yaml', `${lines.join('\n')}\n`));
}

/** Each device that is not well, and how many are. */
function lights(rack: VirtualRack, cloud: Parameters<typeof ledOf>[1]): string[] {
  const all = rack.devices.map(({ photon, index }) => ({ name: nameOf(index - 1), ...ledOf(photon, cloud) }));
  const ill = all.filter(({ why }) => why !== null);
  return [
    ...ill.map(({ name, light, why }) => `  ${name}  ${light.padEnd(15)}  ${why ?? ''}`),
    `  ${all.length - ill.length} of ${all.length} breathe cyan`,
  ];
}
