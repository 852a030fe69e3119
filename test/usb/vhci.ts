import { readdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from './until.ts';

/*
 * The kernel's own USB/IP client, vhci_hcd: eight controllers of fifteen ports each, which a program sees as eight hubs.
 * A device is plugged in by handing it a connected socket, and it is gone when the server at the other end hangs up.
 */

const SYSFS = '/sys/devices/platform/vhci_hcd.0';
const DEVICES = '/sys/bus/usb/devices';
/** Ports of one controller: fifteen at high speed, then as many at super speed. */
const PORTS_A_CONTROLLER = 30;
const OP_REQ_IMPORT = Buffer.from('0111800300000000', 'hex');
const IMPORT_REPLY_BYTES = 320;

/** A socket of this machine: controller and port, both from 0. */
export interface Place {
  readonly hub: number;
  readonly port: number;
}

/** A device as the kernel lists it in sysfs. */
export interface KernelDevice {
  readonly path: string;
  readonly serial: string | null;
  readonly release: number;
  /** Its number on the bus, anew for each arrival. */
  readonly number: number;
}

/** How the kernel names the socket: `3-2`. */
export async function pathOf({ hub, port }: Place): Promise<string> {
  const controller = `/sys/devices/platform/vhci_hcd.${hub}`;
  for (const name of await readdir(controller)) {
    const highSpeed = /^usb\d+$/.test(name) && (await sysfsText(`${controller}/${name}/speed`)) === '480';
    if (highSpeed) return `${name.slice('usb'.length)}-${port + 1}`;
  }
  throw new Error(`there is no high-speed bus in ${controller}`);
}

/**
 * Every Photon that the kernel has enumerated. Never synchronously: a file may be locked until the device has answered,
 * which may be served by this very process.
 */
export async function kernelDevices(): Promise<KernelDevice[]> {
  const names = await readdir(DEVICES);
  const found: KernelDevice[] = [];
  for (const path of names) {
    // The interface comes last: a device without one is still being enumerated.
    if (!names.includes(`${path}:1.0`)) continue;
    if ((await sysfsText(`${DEVICES}/${path}/idVendor`)) !== '2b04') continue;
    const [serial, release, number] = await Promise.all(
      ['serial', 'bcdDevice', 'devnum'].map(name => sysfsText(`${DEVICES}/${path}/${name}`)),
    );
    if (!release || !number) continue; // it has just gone
    found.push({ path, serial: serial ?? null, release: Number.parseInt(release, 16), number: Number(number) });
  }
  return found.sort((a, b) => a.path.localeCompare(b.path, 'en', { numeric: true }));
}

/** Plugs devices of a USB/IP server into sockets of this machine, and waits until the kernel shows them all. */
export async function plugIn(
  server: { host: string; port: number },
  devices: readonly { busId: string; place: Place }[],
): Promise<void> {
  const paths: string[] = [];
  for (const { busId, place } of devices) {
    await until(`socket ${place.hub}.${place.port} to be free`, async () => !(await usedPorts()).has(numberOf(place)));
    await attach(server, busId, place);
    paths.push(await pathOf(place));
  }
  await until(`devices at ${paths.join(', ')}`, async () => {
    const there = new Set((await kernelDevices()).map(({ path }) => path));
    return paths.every(path => there.has(path));
  });
}

/** A rack whose devices come and go by themselves. */
interface Rack {
  device(busId: string): { readonly onBus: boolean; readonly appearance: number };
}

/**
 * A hub that finds a device again after it has started anew, which USB/IP's client does not: plugs in whatever is on the
 * rack's bus and not on this kernel's. @returns what ends it
 */
export function keepPluggedIn(
  rack: Rack,
  server: { host: string; port: number },
  devices: readonly { busId: string; place: Place }[],
): () => Promise<void> {
  const attached = new Map<string, number>();
  const over = new AbortController();
  const look = async (): Promise<void> => {
    const used = await usedPorts();
    for (const { busId, place } of devices) {
      const { onBus, appearance } = rack.device(busId);
      if (!onBus || attached.get(busId) === appearance || used.has(numberOf(place))) continue;
      // One that has gone meanwhile is met at the next look.
      await attach(server, busId, place).then(
        () => attached.set(busId, appearance),
        () => undefined,
      );
    }
  };
  const looking = (async () => {
    while (!over.signal.aborted) {
      await look();
      await sleep(100);
    }
  })();
  return async () => {
    over.abort();
    await looking;
  };
}

async function attach(server: { host: string; port: number }, busId: string, place: Place): Promise<void> {
  const socket = connect(server);
  try {
    const reply = await importDevice(socket, busId);
    const [busNumber, deviceNumber, speed] = [296, 300, 304].map(offset => reply.readUInt32BE(offset));
    const { _handle: handle } = socket as unknown as { _handle: { fd: number; readStop(): void } };
    handle.readStop(); // from here on what arrives is the kernel's
    const device = (busNumber! << 16) | deviceNumber!;
    await writeFile(`${SYSFS}/attach`, `${numberOf(place)} ${handle.fd} ${device} ${speed!}`);
  } finally {
    socket.destroy(); // the kernel holds the connection by itself
  }
}

/** Pulls every device, and waits until it is gone. */
export async function unplugAll(): Promise<void> {
  for (const port of await usedPorts()) {
    await writeFile(`${SYSFS}/detach`, String(port)).catch(async (error: unknown) => {
      if ((await usedPorts()).has(port)) throw error; // else it has just left by itself
    });
  }
  await allUnplugged();
}

/** Waits until no device is plugged in and every socket is free again. */
export async function allUnplugged(): Promise<void> {
  await until(
    'no device on the bus',
    async () => (await kernelDevices()).length === 0 && (await usedPorts()).size === 0,
  );
}

/** @returns the answer, of which the connection has given no more */
async function importDevice(socket: ReturnType<typeof connect>, busId: string): Promise<Buffer> {
  const question = Buffer.alloc(40);
  OP_REQ_IMPORT.copy(question);
  question.write(busId, OP_REQ_IMPORT.length);
  socket.write(question);
  let reply = Buffer.alloc(0);
  for await (const piece of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    reply = Buffer.concat([reply, piece]);
    if (reply.length >= 8 && reply.readUInt32BE(4) !== 0) break;
    if (reply.length >= IMPORT_REPLY_BYTES) return reply;
  }
  throw new Error(`the server refused ${busId}: ${reply.toString('hex')}`);
}

/** As vhci numbers its ports. */
function numberOf({ hub, port }: Place): number {
  return hub * PORTS_A_CONTROLLER + port;
}

/** Lines are `hs  0005 006 002 00010002 000003 1-1`; 004 in the third column is a free port. */
async function usedPorts(): Promise<Set<number>> {
  const used = new Set<number>();
  for (const name of await readdir(SYSFS)) {
    if (!/^status(\.\d+)?$/.test(name)) continue;
    for (const line of ((await sysfsText(`${SYSFS}/${name}`)) ?? '').split('\n')) {
      const [, number, state] = /^[hs]s +(\d+) (\d+) /.exec(line) ?? [];
      if (number !== undefined && state !== '004') used.add(Number(number));
    }
  }
  return used;
}

/** @returns null where it is not there, or has just gone */
async function sysfsText(file: string): Promise<string | null> {
  return await readFile(file, 'utf8').then(
    text => text.trim(),
    () => null,
  );
}
