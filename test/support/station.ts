import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCallClient } from '#src/cloud/call-client.ts';
import { createCloudClient } from '#src/cloud/client.ts';
import { Deliverer, offlineSender } from '#src/cloud/deliver.ts';
import { tcpProver } from '#src/cloud/handshake.ts';
import { CallDeliverer, offlineCaller } from '#src/cloud/deliver-calls.ts';
import { systemClock, type Clock } from '#src/core/clock.ts';
import type { CallOutbox } from '#src/core/cloud-calls.ts';
import type { DeviceId } from '#src/core/device-id.ts';
import { Fault } from '#src/core/errors.ts';
import type { DeviceSettled, RunEvent, RunSummary } from '#src/core/events.ts';
import type { Ledger } from '#src/core/ledger.ts';
import type { Prover } from '#src/core/prover.ts';
import { Secret } from '#src/core/secret.ts';
import type { UsbPath } from '#src/core/usb-path.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import type { FleetOptions } from '#src/fleet/options.ts';
import { runFleet } from '#src/fleet/run-fleet.ts';
import type { FirmwareSettings } from '#src/job/firmware-files.ts';
import { withProof } from '#src/job/add-prove.ts';
import { loadJob } from '#src/job/job.ts';
import { restoreJob } from '#src/job/restore-job.ts';
import type { ServerSettings } from '#src/job/server-change.ts';
import { makeKeyPair } from '#src/keys/make-key-pair.ts';
import type { ManifestRow } from '#src/manifest/manifest.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import { parseFault, type RackFault } from '#src/sim/rack-faults.ts';
import { startVirtualCloud, type VirtualCloud } from '#src/sim/virtual-cloud.ts';
import { createRack, type RackOptions, type VirtualRack } from '#src/sim/virtual-rack.ts';
import { callOutboxOf, ledgerOf, outboxOf } from '#src/store/ledger.ts';
import { leaseOwner } from '#src/store/ops/lease-owner.ts';
import type { DeviceHistory } from '#src/store/ops/history.ts';
import { Store } from '#src/store/store.ts';
import type { UsbBus } from '#src/usb/port.ts';
import { makeIdentity } from '#src/vault/identity-file.ts';
import { vaultOf, type Vault } from '#src/vault/vault.ts';
import { filesInRealTime, inRealTime, LeapingClock } from './leaping-clock.ts';

const JOBS_DIR = new URL('../../jobs', import.meta.url).pathname;
const TOKEN = 'token-of-the-tests';

export interface RunSettings extends Partial<Omit<FleetOptions, 'rows' | 'job' | 'unauthorized' | 'observer'>> {
  readonly rows?: readonly ManifestRow[];
  /** Its real path; `/rack.csv` if left out. */
  readonly manifest?: string;
  readonly job?: string;
  /** The number of a backup of the first row's device: `restore` in place of a run. */
  readonly restore?: number;
  readonly server?: ServerSettings;
  readonly firmware?: FirmwareSettings;
  readonly offline?: boolean;
  readonly again?: boolean;
  readonly retryFailed?: boolean;
  readonly quarantineAfter?: number;
  /** Lies between the session and the record: a crash at a boundary is a method that never goes on. */
  readonly ledger?: (real: Ledger) => Ledger;
  /** The same for the record of calls. */
  readonly calls?: (real: CallOutbox) => CallOutbox;
  /** The process dies after the device has gone through, before its row is settled. */
  readonly cutBeforeSettling?: boolean;
  readonly onEvent?: (event: RunEvent) => void;
  /** With the step `prove`; what is configured of the server. */
  readonly prove?: { readonly server?: Prover['server']; readonly timeoutMs?: number };
}

export interface RunResult {
  readonly summary: RunSummary;
  readonly events: readonly RunEvent[];
  readonly devices: ReadonlyMap<DeviceId, DeviceSettled>;
}

export interface StationRack extends Partial<Omit<RackOptions, 'faults'>> {
  readonly faults?: readonly (string | RackFault)[];
  /** The cloud shakes hands, and the devices carry its server key and address, unless they are given others. */
  readonly handshake?: boolean;
}

/**
 * A whole station in this process: a virtual rack, a virtual cloud, a real record. A `clock` of the rack is that of the
 * runs too.
 */
export class Station implements AsyncDisposable {
  readonly folder: string;
  readonly store: Store;
  readonly vault: Vault;
  readonly cloud: VirtualCloud;
  readonly #rackOptions: RackOptions;
  #rack: VirtualRack;

  private constructor(
    parts: Pick<Station, 'folder' | 'store' | 'vault' | 'rack' | 'cloud'> & { rackOptions: RackOptions },
  ) {
    this.folder = parts.folder;
    this.store = parts.store;
    this.vault = parts.vault;
    this.cloud = parts.cloud;
    this.#rack = parts.rack;
    this.#rackOptions = parts.rackOptions;
  }

  get rack(): VirtualRack {
    return this.#rack;
  }

  get clock(): Clock {
    return this.#rackOptions.clock ?? systemClock;
  }

  get dbPath(): string {
    return join(this.folder, 'fleet.db');
  }

  static async open(rack: StationRack = {}): Promise<Station> {
    const { faults = [], handshake = false, ...options } = rack;
    const cloud = await startVirtualCloud({ token: TOKEN, handshake });
    const server = cloud.handshake;
    const folder = mkdtempSync(join(tmpdir(), 'photon-fleet-test-'));
    const store = await Store.open({ path: join(folder, 'fleet.db'), create: true });
    const identity = await makeIdentity(join(folder, 'fleet.identity'));
    const rackOptions = {
      count: 1,
      hubs: 1,
      writeMs: 2,
      leaveMs: 1,
      ...(server && { serverKey: server.serverKey, serverAddress: server }),
      ...options,
      faults: faultsOf(faults, options.clock),
    };
    return new Station({
      folder,
      store,
      vault: vaultOf(identity),
      rack: await createRack(rackOptions),
      rackOptions,
      cloud,
    });
  }

  /** The same devices, replugged, with other faults or none; what is in their flash lies in the `stateDir` of the rack. */
  async refit(faults: readonly string[] = []): Promise<void> {
    if (this.#rackOptions.stateDir === undefined) throw new Error('without a stateDir the devices would be others');
    await this.#rack.close();
    this.#rack = await createRack({ ...this.#rackOptions, faults: faultsOf(faults, this.clock) });
  }

  /** Rows for the whole rack. */
  rows(more: Partial<ManifestRow> = {}): ManifestRow[] {
    return this.rack.devices.map(({ deviceId }, index) => rowOf(deviceId, index + 2, more));
  }

  id(index: number): DeviceId {
    const device = this.rack.devices[index];
    if (!device) throw new Error(`the rack has no device ${index}`);
    return device.deviceId;
  }

  deliverer(token = TOKEN): Deliverer {
    return new Deliverer({
      outbox: outboxOf(this.store),
      client: createCloudClient({ url: this.cloud.url, token: new Secret(token), timeoutMs: 2000, insecure: false }),
      clock: this.clock,
      owner: leaseOwner('run'),
      timeoutMs: 2000,
      random: () => 0,
      onUnauthorized: () => undefined,
    });
  }

  /** What makes the calls beside the sends of `deliverer`. */
  caller(deliverer: Deliverer, token = TOKEN, outbox = callOutboxOf(this.store)): CallDeliverer {
    return new CallDeliverer({
      outbox,
      client: createCallClient({ url: this.cloud.url, token: new Secret(token), timeoutMs: 2000, insecure: false }),
      token: deliverer,
      clock: this.clock,
      owner: leaseOwner('run'),
      timeoutMs: 2000,
      random: () => 0,
    });
  }

  async run(settings: RunSettings = {}, token = TOKEN): Promise<RunResult> {
    const {
      rows = this.rows(),
      again = false,
      retryFailed = false,
      quarantineAfter = 0,
      offline = false,
      onEvent,
      server,
      firmware,
      cutBeforeSettling = false,
      manifest = '/rack.csv',
      prove,
      ...fleet
    } = settings;
    const { clock } = this;
    const listed =
      settings.restore === undefined
        ? loadJob(settings.job ?? 'rekey', JOBS_DIR, server ?? { key: 'keep', host: null, port: null }, firmware)
        : restoreJob(settings.restore, await this.backup(rows[0]!.deviceId, settings.restore));
    const job = prove ? withProof(listed) : listed;
    const deliverer = this.deliverer(token);
    const callOutbox = callOutboxOf(this.store);
    const caller = this.caller(deliverer, token, settings.calls?.(callOutbox));
    const opened = await (settings.restore === undefined
      ? this.store.call('openRun', {
          job: job.name,
          manifest,
          manifestSha256: 'x',
          rows: rows.map(row => ({ ...row, extra: {} })),
          again,
          retryFailed,
          quarantineAfter,
          at: clock.now(),
        })
      : this.store.call('openRestore', {
          deviceId: rows[0]!.deviceId,
          backupId: settings.restore,
          sha256: 'x',
          productId: null,
          why: null,
          at: clock.now(),
        }));
    const events: RunEvent[] = [];
    const ledger = inRealTime(ledgerOf(this.store), clock);
    const buses: readonly UsbBus[] = settings.buses ?? [simBus(this.rack)];
    const summary = await runFleet(
      {
        runId: opened.runId,
        resumed: opened.resumed,
        manifest,
        before: opened.rows,
        concurrency: 128,
        perHub: 64,
        waitMs: 0,
        limit: null,
        maxFail: null,
        leftOut: new Set<DeviceId>(),
        again,
        drain: new AbortController().signal,
        ...fleet,
        job,
        rows,
        buses,
        unauthorized: () => deliverer.unauthorized,
        observer: event => {
          events.push(event);
          onEvent?.(event);
        },
      },
      {
        ledger: settings.ledger?.(ledger) ?? ledger,
        fleetLedger: inRealTime(
          {
            settleRow: settlement =>
              cutBeforeSettling
                ? Promise.reject(new Fault('DB_FAILED', 'cut'))
                : this.store.call('settleRow', settlement),
            finishRun: run => this.store.call('finishRun', run),
          },
          clock,
        ),
        sender: inRealTime(offline ? offlineSender : deliverer, clock),
        caller: inRealTime(offline ? offlineCaller(callOutbox, clock) : caller, clock),
        ...(!offline && { claimer: inRealTime(caller, clock) }),
        vault: inRealTime(this.vault, clock),
        ...inRealTime({ makeKey: makeKeyPair }, clock),
        ...(prove && {
          prover: inRealTime(
            tcpProver({
              clock: systemClock,
              timeoutMs: prove.timeoutMs ?? 60_000,
              server: prove.server ?? { key: null, host: null, port: null },
            }),
            clock,
          ),
        }),
        clock,
      },
    );
    const devices = events.filter(event => event.type === 'device');
    return { summary, events, devices: new Map(devices.map(device => [device.deviceId, device])) };
  }

  /** What was sealed of a device's backup. */
  async backup(deviceId: DeviceId, backupId: number): Promise<Buffer> {
    const [found] = await this.store.call('sealedBackups', { afterBackupId: backupId - 1, limit: 1 });
    if (found?.backupId !== backupId) throw new Error(`there is no backup ${backupId}`);
    const { sealed, fingerprint } = found;
    return this.vault.open(sealed, { purpose: 'backup', deviceId, generation: null, fingerprint });
  }

  history(deviceId: DeviceId): Promise<DeviceHistory> {
    return this.store.call('deviceHistory', deviceId);
  }

  /** What lies in the internal flash of a device that is in DFU mode. */
  async flash(index: number, address: number, length: number): Promise<Buffer> {
    const path = this.rack.devices[index]?.busId;
    const port = (await simBus(this.rack).list()).find(one => one.path === path);
    if (!port) throw new Error(`device ${index} is not on the bus`);
    await using dfu = await DfuDevice.open(port, systemClock);
    await dfu.toIdle();
    return Buffer.from(await dfu.read(0, address, length));
  }

  /** The DCT of a device as DFU gives it, in DFU mode again if it had left. */
  async dct(index: number): Promise<Buffer> {
    const device = this.rack.devices[index];
    if (!device) throw new Error(`the rack has no device ${index}`);
    if (!device.onBus) this.rack.enterDfu(device.busId);
    const port = (await simBus(this.rack).list()).find(({ path }) => path === device.busId);
    if (!port) throw new Error(`${device.busId} is not on the bus`);
    await using dfu = await DfuDevice.open(port, systemClock);
    await dfu.toIdle();
    return Buffer.from(await dfu.read(1, 0, DCT.LENGTH));
  }

  /** Fingerprint of the key on a device; null where there is none that can be read. */
  async keyOn(index: number): Promise<string | null> {
    const { publicKey } = classifyPrivateKey(fieldOf(await this.dct(index), DCT.DEVICE_PRIVATE_KEY));
    return publicKey?.fingerprint ?? null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    await this.cloud.close();
    await this.rack.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function faultsOf(faults: readonly (string | RackFault)[], clock: Clock | undefined): RackFault[] {
  const under = clock instanceof LeapingClock ? [filesInRealTime(clock)] : [];
  return [...under, ...faults.map(fault => (typeof fault === 'string' ? parseFault(fault) : fault))];
}

export function rowOf(deviceId: DeviceId, line: number, more: Partial<ManifestRow> = {}): ManifestRow {
  return { line, deviceId, port: null, name: null, productId: null, extra: {}, ...more };
}

/** The bytes of a DCT that a comparison may look at: the bootloader changes the first 32 by itself. */
export function comparable(dct: Buffer): Buffer {
  return dct.subarray(32);
}

export function pathOf(text: string): UsbPath {
  return text as UsbPath;
}

/**
 * A fault that strikes the nth time, for as many times in a row as the recovery ladder tries: laid on top of each other,
 * each of them lets the others' strikes pass.
 */
export function roundTheLadder(fault: string): string[] {
  return Array<string>(4).fill(fault);
}
