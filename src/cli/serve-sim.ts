import { setMaxListeners } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';
import { tcpProver } from '../cloud/handshake.ts';
import { systemClock } from '../core/clock.ts';
import { Fault, toFault } from '../core/errors.ts';
import { readManifest } from '../manifest/read-manifest.ts';
import type { Led } from '../sim/led.ts';
import type { RackDevice } from '../sim/rack-device.ts';
import { parseFault } from '../sim/rack-faults.ts';
import { serveRack } from '../sim/usbip-server.ts';
import { parseCloudFault, startVirtualCloud } from '../sim/virtual-cloud.ts';
import { createRack } from '../sim/virtual-rack.ts';
import type { VirtualRack } from '../sim/virtual-rack.ts';
import type { CommandContext } from './command.ts';
import type { SimArgs } from './commands/sim.ts';
import { splitAddress } from './compose.ts';
import { EXIT } from './exit-codes.ts';
import { onInterrupt } from './interrupt.ts';
import { optimizeLater } from './optimize-later.ts';
import { startedLed } from './rack-lights.ts';
import { systemCode } from '../core/system-code.ts';

const DEVICES_A_HUB = 8;

/** `sim rack`: serves until Ctrl-C. */
export async function serveSimRack(args: SimArgs, context: CommandContext): Promise<number> {
  const { out } = context;
  const address = listenAddress(args.listen ?? '127.0.0.1:3240');
  const count = wholeNumber('--count', args.count, 1, 1000);
  const hubs = wholeNumber('--hubs', args.hubs ?? Math.ceil(count / DEVICES_A_HUB), 1, count);
  const writeMs = wholeNumber('--write-ms', args['write-ms'], 0, 600_000);
  const systemVersion = wholeNumber('--system-version', args['system-version'], 0, 0xffff);
  const faults = (args.fault ?? []).map(parseFault);
  const ids = args.ids === undefined ? [] : (await readManifest(args.ids)).rows.map(row => row.deviceId);
  using lights = showLights(args, context);
  optimizeLater();
  const rack = await createRack({
    count,
    hubs,
    ids: ids.slice(0, count),
    writeMs,
    boots: args.boots ?? false,
    systemVersion,
    keys: args.keys,
    faults,
    onStart: device => lights.show(device),
    ...(args.state !== undefined && { stateDir: args.state }),
  });
  try {
    if (args.manifest !== undefined) writeManifest(args.manifest, rack);
    const server = await serveRack(rack, address);
    using interrupt = untilInterrupted(context); // before anybody is told that there is something to stop
    const devices = rack.devices.map(({ busId, deviceId }) => ({ path: busId, deviceId }));
    const where = `${formatHost(server.host)}:${server.port}`;
    if (args.json) out.result(JSON.stringify({ type: 'listening', address: where, devices }));
    else {
      out.result(`listening on ${where}: ${devices.length} virtual Photons on ${hubs} ${hubs === 1 ? 'hub' : 'hubs'}`);
      out.talk(`try: photon-fleet devices --rack ${where}`);
      out.talk(
        `or, as root: usbip --tcp-port ${server.port} attach -r ${server.host} -b ${devices[0]?.path ?? '1-1.1'}`,
      );
    }
    await interrupt.came;
    await server.close();
    return EXIT.OK;
  } finally {
    await rack.close();
  }
}

/** How long a virtual Photon tries to shake hands, which is with this machine alone. */
const HANDSHAKE_MS = 60_000;

/** For each device that has started: what its LED shows, and why where that is not breathing cyan. */
function showLights({ json }: SimArgs, { out }: CommandContext): Disposable & { show(device: RackDevice): void } {
  const over = new AbortController();
  setMaxListeners(0, over.signal);
  const server = { key: null, host: null, port: null };
  const prover = tcpProver({ clock: systemClock, timeoutMs: HANDSHAKE_MS, server, stop: over.signal });
  const tell = ({ busId: path, deviceId }: RackDevice, led: Led): void => {
    if (over.signal.aborted) return;
    if (json) out.result(JSON.stringify({ type: 'led', path, deviceId, ...led }));
    else out.result(`${path}  ${deviceId}  ${led.light}${led.why === null ? '' : `: ${led.why}`}`);
  };
  return {
    show(device) {
      startedLed(device, prover).then(
        led => tell(device, led),
        // Whatever lies in a DCT ends no rack.
        (thrown: unknown) => tell(device, { light: 'red burst', why: toFault(thrown).message }),
      );
    },
    [Symbol.dispose]: () => over.abort(),
  };
}

/** `sim cloud`: serves until Ctrl-C. */
export async function serveSimCloud(args: SimArgs, context: CommandContext): Promise<number> {
  const { out, env } = context;
  const address = listenAddress(args.listen ?? '127.0.0.1:8080');
  const faults = (args.fault ?? []).map(parseCloudFault);
  const token = env['PARTICLE_ACCESS_TOKEN'];
  if (args.token && !token) throw new Fault('USAGE', '--token: PARTICLE_ACCESS_TOKEN is not set');
  const shakesHandsAt = args['handshake-listen'];
  const keyFile = args['server-key-out'];
  if (keyFile !== undefined && shakesHandsAt === undefined) {
    throw new Fault('USAGE', '--server-key-out: without --handshake-listen there is no server key');
  }
  const cloud = await startVirtualCloud({
    ...address,
    faults,
    ...(args.token && token && { token }),
    ...(shakesHandsAt !== undefined && { handshake: listenAddress(shakesHandsAt, '--handshake-listen') }),
  });
  const { handshake: served } = cloud;
  if (served && keyFile !== undefined) {
    try {
      writeNewFile(keyFile, 'server key', served.serverKeyPem);
    } catch (thrown) {
      await cloud.close();
      throw thrown;
    }
  }
  const handshake = served && `${formatHost(served.host)}:${served.port}`;
  using interrupt = untilInterrupted(context);
  if (args.json) out.result(JSON.stringify({ type: 'listening', url: cloud.url, ...(handshake && { handshake }) }));
  else {
    out.result(`listening on ${cloud.url}${handshake ? `, handshake: ${handshake}` : ''}`);
    out.talk(`try: PHOTON_FLEET_CLOUD_URL=${cloud.url} PARTICLE_ACCESS_TOKEN=any photon-fleet replay`);
    out.talk(`what it was told: GET ${cloud.url}/v1/sim/keys`);
  }
  await interrupt.came;
  await cloud.close();
  return EXIT.OK;
}

function untilInterrupted({ out }: CommandContext): Disposable & { readonly came: Promise<void> } {
  const interrupt = onInterrupt(out, 'stopping');
  // A timer keeps the process alive where nothing else does.
  const alive = setInterval(() => undefined, 60_000);
  const came = new Promise<void>(resolve => {
    interrupt.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  return {
    came,
    [Symbol.dispose]: () => {
      clearInterval(alive);
      interrupt.dispose();
    },
  };
}

function listenAddress(text: string, flag = '--listen'): { host: string; port: number } {
  const address = splitAddress(text);
  if (!/^(\[[0-9a-f:]+\]|[^:\s]+):\d{1,5}$/i.test(text) || address.port > 65_535) {
    throw new Fault('USAGE', `${flag}: ${JSON.stringify(text.slice(0, 60))} is no HOST:PORT`, {
      hint: 'for instance 127.0.0.1:3240; port 0 takes any free one',
    });
  }
  return address;
}

function wholeNumber(flag: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new Fault('USAGE', `${flag} takes a whole number from ${least} to ${most}`);
  }
  return value;
}

function writeManifest(path: string, rack: VirtualRack): void {
  const lines = ['device_id,name', ...rack.devices.map(({ deviceId, busId }) => `${deviceId},sim ${busId}`), ''];
  writeNewFile(path, 'manifest', lines.join('\n'));
}

/** In a file of its own: never over another. */
function writeNewFile(path: string, what: string, content: string): void {
  let fd: number;
  try {
    fd = openSync(path, 'wx', 0o644);
  } catch (cause) {
    const code = systemCode(cause);
    throw new Fault('USAGE', `the ${what} ${path} can't be made (${code})`, {
      hint: 'name a file that is not there yet',
      cause,
    });
  }
  try {
    writeSync(fd, content);
  } finally {
    closeSync(fd);
  }
}

function formatHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
