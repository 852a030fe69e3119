import { cp, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Bench, exit, type Served } from '../support/cli.ts';
import { sha256 } from './programs.ts';
import { allUnplugged, pathOf, type Place, plugIn } from './vhci.ts';

const HUBS = 4;

/** A device of the rack, and the socket of this machine that it is plugged into. */
export interface Plugged {
  readonly index: number;
  readonly busId: string;
  readonly deviceId: string;
  readonly place: Place;
  readonly path: string;
}

/** The devices of a rack whose state is in `folder`, one after the other on so many hubs of this machine. */
export async function placesOf(folder: string, hubs: number): Promise<Plugged[]> {
  const index = JSON.parse(await readFile(join(folder, 'rack.json'), 'utf8')) as { devices: Plugged[] };
  const devices = index.devices.map(async (device, nth) => {
    const place = { hub: nth % hubs, port: Math.floor(nth / hubs) };
    return { ...device, place, path: await pathOf(place) };
  });
  return await Promise.all(devices);
}

/** `photon-fleet sim rack` in a process of its own, whose devices are plugged into this kernel over USB/IP. */
export class RackOnKernel {
  readonly devices: readonly Plugged[];
  readonly #bench: Bench;
  readonly #folder: string;
  readonly #hubs: number;
  #served: Served | null = null;

  private constructor(bench: Bench, folder: string, devices: readonly Plugged[], hubs: number) {
    this.#bench = bench;
    this.#folder = folder;
    this.devices = devices;
    this.#hubs = hubs;
  }

  /** @param prepared the state folder of a rack that was made before; a copy of it is worked on */
  static async of(bench: Bench, prepared: string, hubs = HUBS): Promise<RackOnKernel> {
    const folder = bench.path('rack');
    await cp(prepared, folder, { recursive: true });
    return new RackOnKernel(bench, folder, await placesOf(folder, hubs), hubs);
  }

  /** Power on: every device is in DFU mode, and none plugged in. */
  async start(): Promise<void> {
    const size = ['--count', String(this.devices.length), '--hubs', String(this.#hubs)];
    this.#served = await this.#bench.serve(['rack', '--state', this.#folder, ...size, '--listen', '127.0.0.1:0']);
  }

  async plugIn(devices: readonly Plugged[]): Promise<void> {
    const [host = '', port] = (this.#served?.address ?? '').split(':');
    await plugIn({ host, port: Number(port) }, devices);
  }

  async stop(): Promise<void> {
    const child = this.#served?.child;
    this.#served = null;
    child?.kill('SIGINT');
    if (child) await exit(child);
    await allUnplugged();
  }

  /** Every device off, and on again in DFU mode, as if somebody had held its buttons; all plugged in. */
  async cycle(): Promise<void> {
    await this.stop();
    await this.start();
    await this.plugIn(this.devices);
  }

  /** What a device's flash holds, by the rack's own account: a hash of each sector's file. */
  async flashOf({ index }: Plugged): Promise<Record<string, string>> {
    const prefix = `${String(index).padStart(4, '0')}-`;
    const names = (await readdir(this.#folder)).filter(name => name.startsWith(prefix)).sort();
    const entries = names.map(async name => [name, sha256(await readFile(join(this.#folder, name)))] as const);
    return Object.fromEntries(await Promise.all(entries));
  }
}
