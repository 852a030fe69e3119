import { userInfo } from 'node:os';
import { loadConfig } from '../config/load-config.ts';
import type { Flags } from '../config/load-config.ts';
import type { Config } from '../config/config.ts';
import { readToken } from '../config/token.ts';
import { createCloudClient } from '../cloud/client.ts';
import { createCallClient } from '../cloud/call-client.ts';
import { Deliverer } from '../cloud/deliver.ts';
import { tcpProver } from '../cloud/handshake.ts';
import { CallDeliverer } from '../cloud/deliver-calls.ts';
import { systemClock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import type { Prover } from '../core/prover.ts';
import type { Secret } from '../core/secret.ts';
import { readServerKey } from '../job/server-change.ts';
import { leaseOwner } from '../store/ops/lease-owner.ts';
import { stationLockPath } from '../store/lock-path.ts';
import { Store } from '../store/store.ts';
import { callOutboxOf, outboxOf } from '../store/ledger.ts';
import type { UsbBus } from '../usb/port.ts';
import { identityFileOf, makeIdentity, readIdentitiesByHand, readIdentity } from '../vault/identity-file.ts';
import type { StationIdentity } from '../vault/identity-file.ts';
import type { Binding } from '../vault/policy.ts';
import type { Sealer } from '../vault/sealer.ts';
import { threadedSealer } from '../vault/threaded-sealer.ts';
import { vaultOf, vaultWith } from '../vault/vault.ts';
import type { PoolVault, Vault } from '../vault/vault.ts';
import { workingIdentities } from '../vault/working-identities.ts';
import type { WorkingIdentities } from '../vault/working-identities.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import { checkBound, chosen, wishOf } from './vault-choice.ts';
import { isLoopback } from '../core/hosts.ts';

/* The only place where real parts are built and joined. */

export function configOf(args: GlobalArgs, more: Flags, { env, cwd, out }: CommandContext): Config {
  const { db, config, verbose, log, operator } = args;
  const loaded = loadConfig({ flags: { db, config, verbose, log, operator, ...more }, env, cwd });
  for (const warning of loaded.warnings) out.talk(`warning: ${warning}`);
  return loaded;
}

/** Who answers for what is done: named by flag, variable or file, else the user of this process. */
function operatorOf({ values }: Config): string {
  if (values.operator !== null) return values.operator;
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`; // a user without a name, as in containers
  }
}

/** The record as it is; a missing one is a fault. */
export function openRecord(config: Config): Promise<Store> {
  return Store.open({ path: config.values.db, create: false, operator: operatorOf(config) });
}

/** The record for a process that works on devices: made if need be, and locked against another such process. */
export function openRecordForWork(config: Config, env: NodeJS.ProcessEnv, onRealBus: boolean): Promise<Store> {
  const locks = [`${config.values.db}.lock`];
  if (onRealBus) locks.unshift(stationLockPath(env));
  return Store.open({ path: config.values.db, create: true, locks, operator: operatorOf(config) });
}

/** Where the station's identity lies. */
export function identityPath({ values }: Config): string {
  return values.vault.identityFile ?? identityFileOf(values.db);
}

/** The station's vault. By itself it seals to what the database is bound to, and no more. */
export interface StationVault extends Vault {
  /** What a run seals is sealed to its working identity as well, where the station can't open it otherwise. */
  forRun(runId: number): Vault;
  /** For key pairs that are prepared: sealed to nobody else than this station, which is to use them. */
  forPrepared(): PoolVault;
  /** Destroys the working identities that nothing needs any more. @returns what could not be done, in words */
  tidy(): Promise<readonly string[]>;
}

/**
 * The station's vault, for a process that works on devices. What the configuration says is bound at first use; the identity
 * of the policy `local` is made then, and never again once something is sealed to it.
 * @param identityFile the identity of a recipient, named by hand: what is sealed to it can be opened then
 * @throws Fault VAULT_POLICY, VAULT_RECIPIENT, VAULT_IDENTITY
 */
export async function openVault(
  config: Config,
  store: Store,
  { warn = () => undefined, identityFile }: { warn?: (message: string) => void; identityFile?: string } = {},
): Promise<StationVault> {
  const state = await store.call('vaultState', undefined);
  const { binding, warnings } = chosen(wishOf(config), state.bound);
  checkBound(binding, state);
  for (const warning of warnings) warn(warning);
  const working = workingOf(config, store);
  const byHand = identityFile === undefined || !state.bound ? null : await identityByHand(identityFile, state.bound);
  const sealer = threadedSealer(store.thread.connect('sealing'));
  let vault: StationVault;
  if (binding.policy === 'local') {
    const identity = byHand ?? (await stationIdentity(config, store));
    vault = openedVault(identity, working, sealer);
  } else {
    await store.call('bindVault', binding);
    vault = closedVault(binding, working, byHand, sealer);
  }
  for (const problem of await vault.tidy()) warn(problem);
  return vault;
}

/** The working identities of this database. */
export function workingOf(config: Config, store: Store): WorkingIdentities {
  return workingIdentities(config.values.db, {
    note: working => store.call('noteWorkingIdentity', { ...working, at: systemClock.now() }),
    list: () => store.call('workingIdentities', undefined),
    noteDestroyed: recipient => store.call('noteWorkingIdentityDestroyed', { recipient, at: systemClock.now() }),
  });
}

/** A vault that seals everything to one identity, and opens it with that. */
export function openedVault(identity: StationIdentity, working: WorkingIdentities, sealer?: Sealer): StationVault {
  const vault = vaultOf(identity, sealer);
  return {
    ...vault,
    forRun: () => vault,
    forPrepared: () => ({ ...vault, sealsAsForDevices: true }),
    tidy: () => working.tidy(),
  };
}

/** A vault that the station can't open, but for what it has begun itself. */
export function closedVault(
  { recipients }: Binding,
  working: WorkingIdentities,
  byHand: StationIdentity | null,
  sealer?: Sealer,
): StationVault {
  const sealingTo = (more: () => Promise<readonly string[]>): Vault => {
    const keys = {
      recipients: async () => [...recipients, ...(await more())],
      identities: async () => [...(byHand ? [byHand] : []), ...(await working.there())].map(({ identity }) => identity),
      opensAll: byHand !== null,
      closedHint:
        'the working identity that it was sealed to is gone; `photon-fleet vault rewrap --identity FILE`, with the ' +
        'identity of a recipient, gives the station what it needs to finish',
    };
    return vaultWith(keys, sealer);
  };
  return {
    ...sealingTo(() => Promise.resolve([])),
    forRun: runId => sealingTo(async () => [(await working.of(runId)).recipient]),
    forPrepared: () => {
      let there: Promise<readonly StationIdentity[]> | undefined;
      const keys = {
        recipients: async () => [(await working.of(null)).recipient],
        identities: async () => (await (there ??= working.there())).map(({ identity }) => identity),
        opensAll: false,
      };
      return { ...vaultWith(keys, sealer), sealsAsForDevices: false };
    },
    tidy: () => working.tidy(),
  };
}

/** The station's own identity, made where nothing is sealed to one yet. @throws Fault VAULT_IDENTITY */
export async function stationIdentity(config: Config, store: Store): Promise<StationIdentity> {
  const path = identityPath(config);
  const { recipient } = await store.call('stationId', undefined);
  let identity = await readIdentity(path);
  if (!identity) {
    if (recipient !== null) {
      throw new Fault('VAULT_IDENTITY', `the identity file ${path}, which this database is sealed to, is not there`);
    }
    identity = await makeIdentity(path);
  }
  await store.call('bindRecipient', identity.recipient);
  return identity;
}

/** An identity that was named by hand, if this database is sealed to it. @throws Fault VAULT_IDENTITY */
export async function identityByHand(path: string, bound: Binding): Promise<StationIdentity> {
  const identities = await readIdentitiesByHand(path);
  const [first] = identities;
  const fitting = identities.find(({ recipient }) => bound.recipients.includes(recipient));
  if (fitting) return fitting;
  const sealedTo = bound.recipients.length > 0 ? `sealed to ${bound.recipients.join(', ')}` : 'kept for nobody';
  throw new Fault('VAULT_IDENTITY', `the identity in ${path} opens nothing here`, {
    facts: { path, found: first.recipient },
    hint: `it is that of ${first.recipient}; what lies here is ${sealedTo}`,
  });
}

/**
 * The vault as it is, for commands that only read; null where the station can't open what is sealed.
 * @throws Fault VAULT_IDENTITY where the identity file is another station's, or holds none
 */
export async function readVault(config: Config, store: Store, identityFile?: string): Promise<Vault | null> {
  const { bound, rewrap } = await store.call('vaultState', undefined);
  if (rewrap) return null; // part of it is sealed to others by now
  if (identityFile !== undefined && bound) return vaultOf(await identityByHand(identityFile, bound));
  if (bound && bound.policy !== 'local') return null;
  const identity = await readIdentity(identityPath(config));
  if (!identity) return null;
  if (bound && !bound.recipients.includes(identity.recipient)) {
    throw new Fault('VAULT_IDENTITY', 'the identity file is not the one that this database was sealed to');
  }
  return vaultOf(identity);
}

/** This host's bus, or the racks, once each has been looked at. @throws Fault RACK_INSECURE, and what a look throws */
export async function openBuses(config: Config): Promise<UsbBus[]> {
  const { racks, insecureRack } = config.values;
  const buses: UsbBus[] = [];
  if (racks.length === 0) {
    const { localBus } = await import('../usb/webusb.ts');
    buses.push(localBus());
  } else {
    const { rackBus } = await import('../usb/usbip.ts');
    for (const rack of racks) {
      const { host, port } = splitAddress(rack);
      if (!insecureRack && !isLoopback(host)) {
        throw new Fault('RACK_INSECURE', `the rack ${rack} is on another machine`, { facts: { rack } });
      }
      buses.push(rackBus({ host, port }));
    }
  }
  await Promise.all(buses.map(bus => bus.list()));
  return buses;
}

/** `HOST:PORT`, `[::1]:PORT`. The configuration has checked the form. */
export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(address.slice(colon + 1)) };
}

/** The token, or a fault that says where to put one. */
export function tokenOf(config: Config, { env, out }: CommandContext): Secret<string> {
  const token = readToken(config, env, message => out.talk(`warning: ${message}`));
  if (!token) throw new Fault('TOKEN_MISSING', 'there is no access token for the cloud');
  return token;
}

/** Before anything is touched: may this token go to this URL? @throws Fault CLOUD_INSECURE */
export function checkCloud(config: Config, url: string, token: Secret<string>): void {
  const { timeoutMs, insecure } = config.values.cloud;
  createCloudClient({ url, token, timeoutMs, insecure });
}

/** How what goes to the cloud goes there. */
interface Delivery {
  readonly token: Secret<string>;
  readonly url: string;
  readonly owner: 'run' | 'replay';
  readonly requestsAtOnce?: number;
  readonly stop?: AbortSignal;
}

export function delivererOf(
  config: Config,
  store: Store,
  how: Delivery & { onUnauthorized: (reason: string) => void },
): Deliverer {
  const { timeoutMs, insecure } = config.values.cloud;
  const client = createCloudClient({ url: how.url, token: how.token, timeoutMs, insecure });
  return new Deliverer({
    outbox: outboxOf(store),
    client,
    onUnauthorized: how.onUnauthorized,
    ...partsOf(how, timeoutMs),
  });
}

/**
 * For the step `prove`. The configured server is what stands in for one that is built into the firmware.
 * @throws Fault SERVER_KEY_INVALID
 */
export function proverOf({ values }: Config, simulated: Prover['server'] | null): Prover {
  const { key, host, port } = values.server;
  const configured = { key: key === 'keep' || key === 'builtin' ? null : readServerKey(key), host, port };
  return tcpProver({ clock: systemClock, timeoutMs: values.cloud.timeoutMs, server: simulated ?? configured });
}

/** What makes the calls beside the sends of `deliverer`, and stops with them when the token is bad. */
export function callDelivererOf(config: Config, store: Store, how: Delivery & { deliverer: Deliverer }): CallDeliverer {
  const { timeoutMs, insecure } = config.values.cloud;
  const client = createCallClient({ url: how.url, token: how.token, timeoutMs, insecure });
  return new CallDeliverer({
    outbox: callOutboxOf(store),
    client,
    token: how.deliverer,
    ...partsOf(how, timeoutMs),
  });
}

function partsOf({ owner, requestsAtOnce, stop }: Delivery, timeoutMs: number) {
  return {
    clock: systemClock,
    owner: leaseOwner(owner),
    timeoutMs,
    random: Math.random,
    ...(requestsAtOnce !== undefined && { requestsAtOnce }),
    ...(stop && { stop }),
  };
}
