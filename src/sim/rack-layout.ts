import { createHash } from 'node:crypto';
import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { parseUsbPath, type UsbPath } from '../core/usb-path.ts';

/** Hubs of one bus: a root hub with seven ports. */
const HUBS_A_BUS = 7;

/** The socket at port `port` (from 0) of hub `hub` (from 0). */
export function socketOf(hub: number, port: number): UsbPath {
  const path = parseUsbPath(`${1 + Math.floor(hub / HUBS_A_BUS)}-${(hub % HUBS_A_BUS) + 1}.${port + 1}`);
  if (!path) throw new Fault('USAGE', `a rack has no socket ${port + 1} on hub ${hub + 1}: use more hubs`);
  return path;
}

/** The made-up ID of the nth device, from 1. */
export function simulatedId(n: number): DeviceId {
  const id = parseDeviceId(createHash('sha256').update(`photon-fleet sim ${n}`).digest('hex').slice(0, 24));
  if (!id) throw new Fault('BUG', 'a piece of a SHA-256 is no device ID');
  return id;
}

/**
 * The socket of the next device.
 * @param wanted its hub, from 0; undefined: the one with the fewest devices
 */
export function freeSocket(taken: ReadonlySet<string>, hubs: number, wanted?: number): UsbPath {
  const candidates = wanted === undefined ? Array.from({ length: hubs }, (_, hub) => hub) : [wanted];
  let best: { port: number; path: UsbPath } | null = null;
  for (const hub of candidates) {
    let port = 0;
    while (taken.has(socketOf(hub, port))) port += 1;
    if (best === null || port < best.port) best = { port, path: socketOf(hub, port) };
  }
  if (!best) throw new Fault('USAGE', 'a rack needs at least one hub');
  return best.path;
}
