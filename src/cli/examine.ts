import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config } from '../config/config.ts';
import { readToken } from '../config/token.ts';
import { probeCloud } from '../cloud/probe.ts';
import { systemClock, timestamp } from '../core/clock.ts';
import { toFault } from '../core/errors.ts';
import { PARTICLE_VENDOR_ID, recognize } from '../photon/identity.ts';
import { databaseExists } from '../store/database-file.ts';
import { Store } from '../store/store.ts';
import { hasUsb, localBus } from '../usb/webusb.ts';
import { readIdentity } from '../vault/identity-file.ts';
import type { Binding } from '../vault/policy.ts';
import type { CommandContext } from './command.ts';
import { identityPath } from './compose.ts';
import { coreDumpCheck } from './examine-core-dumps.ts';
import { checkBound, checkWish, chosen, wishOf } from './vault-choice.ts';

/** One finding. `note`: worth knowing; `bad`: has to be mended before the station can work. */
export interface Check {
  readonly name: string;
  readonly state: 'ok' | 'note' | 'bad';
  readonly found: string;
  readonly cure: string | null;
}

/** Group plugdev, and whoever sits at the machine (systemd's uaccess); device-os documents the same rule. */
export const UDEV_RULE = `SUBSYSTEM=="usb", ATTR{idVendor}=="2b04", MODE="0660", GROUP="plugdev", TAG+="uaccess"`;

const UDEV_CURE = `as root:
  echo '${UDEV_RULE}' > /etc/udev/rules.d/70-photon-fleet.rules
  udevadm control --reload && udevadm trigger
  adduser YOU plugdev     (and log in again)`;

const OLDEST_NODE = [20, 19] as const;
const EARLIEST_CLOCK = Date.UTC(2026, 0, 1);

/** Looks at everything a run needs; changes nothing, and makes at most one request to the cloud. */
export async function examine(config: Config, context: CommandContext): Promise<Check[]> {
  return [
    nodeCheck(),
    clockCheck(),
    await databaseCheck(config),
    await vaultCheck(config),
    coreDumpCheck(),
    await usbCheck(),
    await cloudCheck(config, context),
  ];
}

function nodeCheck(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const fits = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
  return {
    name: 'Node',
    state: fits ? 'ok' : 'bad',
    found: process.version,
    cure: fits ? null : `install Node ${OLDEST_NODE.join('.')} or newer`,
  };
}

function clockCheck(): Check {
  const now = systemClock.now();
  const fits = now >= EARLIEST_CLOCK;
  return {
    name: 'clock',
    state: fits ? 'ok' : 'bad',
    found: timestamp(now),
    cure: fits ? null : 'set the clock (timedatectl set-ntp true): times of the record and of sends depend on it',
  };
}

async function databaseCheck(config: Config): Promise<Check> {
  const path = config.values.db;
  const name = 'database';
  if (!databaseExists(path)) {
    const folder = dirname(path);
    try {
      accessSync(folder, constants.W_OK);
      return { name, state: 'note', found: `${path} is not there yet; \`run\` makes it`, cure: null };
    } catch {
      return { name, state: 'bad', found: `${folder} can't be written`, cure: 'name another place with --db' };
    }
  }
  try {
    await using store = await Store.open({ path, create: false });
    const problems = await store.call('checkRecord', undefined);
    if (problems.length === 0) return { name, state: 'ok', found: `${path} is whole`, cure: null };
    return {
      name,
      state: 'bad',
      found: problems.join('; '),
      cure: 'go back to the last good `photon-fleet db backup`',
    };
  } catch (error) {
    const fault = toFault(error);
    return { name, state: 'bad', found: fault.message, cure: fault.hint };
  }
}

async function vaultCheck(config: Config): Promise<Check> {
  const name = 'vault';
  try {
    checkWish(config);
    const state = await vaultStateOf(config);
    const { binding, warnings } = chosen(wishOf(config), state.bound);
    checkBound(binding, state);
    if (binding.policy === 'local') return await identityCheck(config, state.bound);
    const path = identityPath(config);
    if (existsSync(path)) {
      const found = `\`${binding.policy}\`, and the identity of another policy lies in ${path}`;
      return { name, state: 'bad', found, cure: 'remove it, and its copies: it opens older copies of the database' };
    }
    const count = binding.recipients.length;
    const found =
      binding.policy === 'none'
        ? '`none`: private keys are not kept'
        : `\`escrow\` to ${count} ${count === 1 ? 'recipient' : 'recipients'}: this station seals and can’t open`;
    return { name, state: warnings.length > 0 ? 'note' : 'ok', found, cure: warnings[0] ?? null };
  } catch (error) {
    const fault = toFault(error);
    return { name, state: 'bad', found: fault.message, cure: fault.hint };
  }
}

async function identityCheck(config: Config, bound: Binding | null): Promise<Check> {
  const path = identityPath(config);
  const name = 'vault';
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) {
    return bound
      ? {
          name,
          state: 'bad',
          found: `${path} is not there`,
          cure: 'put it back: what is sealed in the database can’t be opened without it',
        }
      : { name, state: 'note', found: `${path} is not there yet; \`run\` makes it`, cure: null };
  }
  if (stat.mode & 0o077) {
    return { name, state: 'bad', found: `${path} can be read by others`, cure: `chmod 600 ${path}` };
  }
  const identity = await readIdentity(path);
  const sealedTo = bound?.recipients[0];
  if (sealedTo !== undefined && identity?.recipient !== sealedTo) {
    const found = `${path} is not the identity that the database was sealed to`;
    return { name, state: 'bad', found, cure: `put back the identity of ${sealedTo}` };
  }
  return {
    name,
    state: 'ok',
    found: `\`local\`, with the identity ${path}`,
    cure: 'keep a copy of this file in a safe place: it opens every backup and key',
  };
}

/** Of the database; nothing where there is none, or it can't be read, which its own check says. */
async function vaultStateOf(config: Config): Promise<{ bound: Binding | null; rewrap: Binding | null }> {
  const nothing = { bound: null, rewrap: null };
  if (!databaseExists(config.values.db)) return nothing;
  try {
    await using store = await Store.open({ path: config.values.db, create: false });
    return await store.call('vaultState', undefined);
  } catch {
    return nothing;
  }
}

async function usbCheck(): Promise<Check> {
  const name = 'USB';
  if (!hasUsb()) {
    return {
      name,
      state: 'note',
      found: 'this machine has no USB at all',
      cure: 'work on a rack at another machine with --rack HOST:PORT (Linux’s usbipd), or try `photon-fleet demo`',
    };
  }
  try {
    const bus = localBus();
    const ports = (await bus.list()).filter(port => recognize(port.vendorId, port.productId));
    await bus.close();
    const closed = unopenable();
    if (closed.length > 0) {
      return {
        name,
        state: 'bad',
        found: `${closed.length} Particle device(s) can't be opened by this user`,
        cure: UDEV_CURE,
      };
    }
    const found = `${ports.length} Photon or P1 on the bus`;
    return { name, state: 'ok', found, cure: ports.length === 0 && !mayOpenUsb() ? UDEV_CURE : null };
  } catch (error) {
    const fault = toFault(error);
    return { name, state: 'bad', found: fault.message, cure: fault.hint };
  }
}

/** Device nodes of Particle's that this user may not read and write. */
function unopenable(): string[] {
  const root = '/sys/bus/usb/devices';
  if (!existsSync(root)) return [];
  return readdirSync(root).flatMap(entry => {
    const folder = `${root}/${entry}`;
    if (readNumber(`${folder}/idVendor`, 16) !== PARTICLE_VENDOR_ID) return [];
    const [bus, address] = [readNumber(`${folder}/busnum`, 10), readNumber(`${folder}/devnum`, 10)];
    const node = `/dev/bus/usb/${String(bus).padStart(3, '0')}/${String(address).padStart(3, '0')}`;
    return isAccessible(node) ? [] : [node];
  });
}

function readNumber(file: string, radix: number): number {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), radix);
  } catch {
    return Number.NaN; // it has just been unplugged, or is no device
  }
}

function mayOpenUsb(): boolean {
  return process.getuid?.() === 0 || existsSync('/etc/udev/rules.d/70-photon-fleet.rules');
}

function isAccessible(node: string): boolean {
  try {
    accessSync(node, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

async function cloudCheck(config: Config, context: CommandContext): Promise<Check> {
  const name = 'cloud';
  const { url, timeoutMs } = config.values.cloud;
  try {
    const token = readToken(config, context.env, message => context.out.talk(`warning: ${message}`));
    if (!token) {
      const cure = 'set PARTICLE_ACCESS_TOKEN or `cloud.tokenFile`; without a token, `run --offline` keeps the sends';
      return { name, state: 'note', found: `no access token for ${url}`, cure };
    }
    const answer = await probeCloud({ url, token, timeoutMs, insecure: config.values.cloud.insecure });
    switch (answer.kind) {
      case 'accepted':
        return { name, state: 'ok', found: `${url} takes the token`, cure: null };
      case 'unauthorized':
        return {
          name,
          state: 'bad',
          found: `${url} refuses the token`,
          cure: 'put a fresh token into PARTICLE_ACCESS_TOKEN',
        };
      case 'unknown':
        return {
          name,
          state: 'bad',
          found: `${url}: ${answer.reason}`,
          cure: 'check the network; `run --offline` works without',
        };
    }
  } catch (error) {
    const fault = toFault(error);
    return { name, state: 'bad', found: fault.message, cure: fault.hint };
  }
}
