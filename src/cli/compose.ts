import { loadConfig } from '../config/load-config.ts';
import type { Flags } from '../config/load-config.ts';
import type { Config } from '../config/config.ts';
import { readToken } from '../config/token.ts';
import { createCloudClient } from '../cloud/client.ts';
import { Deliverer } from '../cloud/deliver.ts';
import { systemClock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';
import { leaseOwner } from '../store/ops/lease-owner.ts';
import { stationLockPath } from '../store/station-lock.ts';
import { Store } from '../store/store.ts';
import { outboxOf } from '../store/ledger.ts';
import type { UsbBus } from '../usb/port.ts';
import { identityFileOf, makeIdentity, readIdentity } from '../vault/identity-file.ts';
import { vaultOf } from '../vault/vault.ts';
import type { Vault } from '../vault/vault.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import { isLoopback } from '../core/hosts.ts';

/* The only place where real parts are built and joined. */

export function configOf(args: GlobalArgs, more: Flags, { env, cwd, out }: CommandContext): Config {
  const { db, config, verbose, log } = args;
  const loaded = loadConfig({ flags: { db, config, verbose, log, ...more }, env, cwd });
  for (const warning of loaded.warnings) out.talk(`warning: ${warning}`);
  return loaded;
}

/** The record as it is; a missing one is a fault. */
export function openRecord(config: Config): Promise<Store> {
  return Store.open({ path: config.values.db, create: false });
}

/** The record for a process that works on devices: made if need be, and locked against another such process. */
export function openRecordForWork(config: Config, env: NodeJS.ProcessEnv, onRealBus: boolean): Promise<Store> {
  const locks = [`${config.values.db}.lock`];
  if (onRealBus) locks.unshift(stationLockPath(env));
  return Store.open({ path: config.values.db, create: true, locks });
}

/** Where the station's identity lies. */
export function identityPath({ values }: Config): string {
  return values.vault.identityFile ?? identityFileOf(values.db);
}

/**
 * The station's vault; its identity is made on first use, and never again once something is sealed to it.
 * @throws Fault VAULT_IDENTITY
 */
export async function openVault(config: Config, store: Store): Promise<Vault> {
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
  return vaultOf(identity);
}

/**
 * The station's vault as it is, for commands that only read; null where there is no identity file.
 * @throws Fault VAULT_IDENTITY where it is another station's, or holds none
 */
export async function readVault(config: Config, store: Store): Promise<Vault | null> {
  const identity = await readIdentity(identityPath(config));
  if (!identity) return null;
  const { recipient } = await store.call('stationId', undefined);
  if (recipient !== null && recipient !== identity.recipient) {
    throw new Fault('VAULT_IDENTITY', 'the identity file is not the one that this database was sealed to');
  }
  return vaultOf(identity);
}

/** This host's bus, or the racks. @throws Fault RACK_INSECURE, and what the first look at each throws */
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

export function delivererOf(
  config: Config,
  store: Store,
  how: { token: Secret<string>; url: string; owner: 'run' | 'replay'; onUnauthorized: (reason: string) => void },
): Deliverer {
  const { timeoutMs, insecure } = config.values.cloud;
  const client = createCloudClient({ url: how.url, token: how.token, timeoutMs, insecure });
  return new Deliverer({
    outbox: outboxOf(store),
    client,
    clock: systemClock,
    owner: leaseOwner(how.owner),
    timeoutMs,
    random: Math.random,
    onUnauthorized: how.onUnauthorized,
  });
}
