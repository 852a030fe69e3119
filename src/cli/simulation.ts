import { randomBytes } from 'node:crypto';
import type { Config } from '../config/config.ts';
import { Fault } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import type { Manifest } from '../manifest/manifest.ts';
import type { UsbBus } from '../usb/port.ts';
import type { CommandContext } from './command.ts';
import { tokenOf } from './compose.ts';

/** What `--sim N` or `--sim NxHUBS` asks for. */
export interface SimSize {
  readonly count: number;
  readonly hubs: number;
}

const DEVICES_A_HUB = 8;
const MAX_DEVICES = 1000;
const WRITE_MS = 300;

/** @throws Fault USAGE */
export function parseSim(text: string): SimSize {
  const match = /^(\d{1,4})(?:x(\d{1,3}))?$/i.exec(text.trim());
  const count = Number(match?.[1] ?? 0);
  const hubs = match?.[2] === undefined ? Math.ceil(count / DEVICES_A_HUB) : Number(match[2]);
  if (count < 1 || count > MAX_DEVICES || hubs < 1 || hubs > count) {
    throw new Fault('USAGE', `--sim: ${JSON.stringify(text.slice(0, 20))} is no size of a rack`, {
      hint: 'write the number of devices, and of hubs if you like: --sim 24, --sim 24x3',
    });
  }
  return { count, hubs };
}

/** What a run meets in place of this machine's bus and a real cloud. */
export interface Simulated {
  readonly buses: readonly UsbBus[];
  readonly cloudUrl: string;
  readonly token: Secret<string>;
  /** The server whose key and address the devices carry; null: none that shakes hands. */
  readonly server: { readonly key: Uint8Array; readonly host: string; readonly port: number } | null;
}

/** A virtual rack in this process, whose devices carry the manifest's IDs, and a virtual cloud unless a URL was given. */
export interface Simulation extends Simulated, AsyncDisposable {}

export async function openSimulation(
  size: SimSize,
  manifest: Manifest,
  config: Config,
  /** For the token of a real cloud; null: nothing will be sent. */
  context: CommandContext | null,
  { prove = false }: { prove?: boolean } = {},
): Promise<Simulation> {
  // Loaded here, since a run on real devices needs nothing of it.
  const [{ createRack }, { simBus }, { startVirtualCloud }] = await Promise.all([
    import('../sim/virtual-rack.ts'),
    import('../sim/sim-bus.ts'),
    import('../sim/virtual-cloud.ts'),
  ]);
  const source = config.sourceOf('cloud.url');
  const given = source === 'flag' || source === 'environment';
  const token = given && context ? tokenOf(config, context) : new Secret(randomBytes(16).toString('hex'));
  const ids = manifest.rows.slice(0, size.count).map(row => row.deviceId);
  const cloud = given ? null : await startVirtualCloud({ token: token.reveal(), handshake: prove });
  const server = cloud?.handshake ?? null;
  const carried = server && { serverKey: server.serverKey, serverAddress: server };
  const rack = await createRack({ ...size, ids, writeMs: WRITE_MS, ...carried });
  return {
    buses: [simBus(rack)],
    cloudUrl: cloud?.url ?? config.values.cloud.url,
    token,
    server: server && { key: server.serverKey, host: server.host, port: server.port },
    async [Symbol.asyncDispose]() {
      await cloud?.close();
      await rack.close();
    },
  };
}
