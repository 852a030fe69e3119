import { join } from 'node:path';
import { createCloudClient, type CloudClient } from '#src/cloud/client.ts';
import { Deliverer } from '#src/cloud/deliver.ts';
import { replayOnce } from '#src/cloud/replay.ts';
import type { Clock } from '#src/core/clock.ts';
import type { DeviceId } from '#src/core/device-id.ts';
import { toFault } from '#src/core/errors.ts';
import type { RunSummary } from '#src/core/events.ts';
import { Secret } from '#src/core/secret.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { runFleet } from '#src/fleet/run-fleet.ts';
import { loadJob } from '#src/job/job.ts';
import { restoreJob } from '#src/job/restore-job.ts';
import type { KeyPair } from '#src/keys/make-key-pair.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import type { Behaviour } from '#src/sim/photon-behaviour.ts';
import type { RackFault } from '#src/sim/rack-faults.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import { parseCloudFault, startVirtualCloud, type VirtualCloud } from '#src/sim/virtual-cloud.ts';
import { createRack, type VirtualRack } from '#src/sim/virtual-rack.ts';
import { ledgerOf, outboxOf } from '#src/store/ledger.ts';
import { leaseOwner } from '#src/store/ops/lease-owner.ts';
import type { Store } from '#src/store/store.ts';
import { makeIdentity } from '#src/vault/identity-file.ts';
import { vaultOf, type Vault } from '#src/vault/vault.ts';
import { hasLeft } from './agreement.ts';
import { breaches, lost, recorded } from './audit.ts';
import { Cut } from './cut.ts';
import { DirectStore } from './direct-store.ts';
import { dctInFolder } from './flash-file.ts';
import { rowOf } from './station.ts';
import { tempFolder } from './temp-folder.ts';

const JOBS_DIR = new URL('../../jobs', import.meta.url).pathname;
const TOKEN = 'token-of-the-tests';

/** One run in the world, with all that may go wrong in it. */
export interface RunPlan {
  readonly job: 'rekey' | 'backup' | 'server-key';
  readonly again: boolean;
  readonly retryFailed: boolean;
  readonly offline: boolean;
  /** The address that the job `server-key` writes. */
  readonly host: string;
  /** Laid on top of each device; null: none. */
  readonly faults: readonly (Behaviour | null)[];
  readonly cloud: string | null;
  /** The process dies after so many acts. */
  readonly cutAfter: number;
  /** A backup of one device is put back in place of a run: the nth, counted round. */
  readonly restore?: { readonly index: number; readonly nth: number };
}

/** A station, a rack whose flash lies in files, and a cloud; each run is a process that may die. */
export class World implements AsyncDisposable {
  readonly #folder = tempFolder();
  readonly #faults: (Behaviour | null)[];
  readonly #clock: Clock;
  readonly #foreign = new Set<DeviceId>();
  #recorded: ReadonlySet<string> = new Set();
  #breaches: string[] = [];
  readonly store: DirectStore;
  vault!: Vault;
  rack!: VirtualRack;
  cloud!: VirtualCloud;
  #firstKeys: (string | null)[] = [];
  readonly #pairs: () => KeyPair;

  private constructor(clock: Clock, count: number, pairs: () => KeyPair) {
    this.#clock = clock;
    this.#faults = Array<Behaviour | null>(count).fill(null);
    this.#pairs = pairs;
    this.store = new DirectStore(this.#db);
  }

  static async open(clock: Clock, count: number, pairs: () => KeyPair): Promise<World> {
    const world = new World(clock, count, pairs);
    world.vault = vaultOf(await makeIdentity(world.#folder.file('fleet.identity')));
    const faults = world.#faults.map((_, index): RackFault => {
      const on = (): Behaviour | null => world.#faults[index] ?? null;
      return {
        text: `#${index + 1}`,
        target: { by: 'index', index: index + 1 },
        effect: {
          behaviour: () => ({
            request: (request, pass, grip) => on()?.request?.(request, pass, grip) ?? pass(),
            write: (block, pass, grip) => on()?.write?.(block, pass, grip) ?? pass(block),
            read: (wanted, pass) => on()?.read?.(wanted, pass) ?? pass(),
          }),
        },
      };
    });
    const stateDir = world.#folder.file('rack');
    world.rack = await createRack({ count, hubs: 1, writeMs: 20, leaveMs: 20, faults, stateDir, clock });
    world.cloud = await startVirtualCloud({ token: TOKEN });
    world.#firstKeys = world.rack.devices.map((_, index) => world.keyOn(index));
    return world;
  }

  get #db(): string {
    return this.#folder.file('fleet.db');
  }

  id(index: number): DeviceId {
    return this.rack.devices[index]!.deviceId;
  }

  /** As its flash files say. */
  dct(index: number): Buffer {
    return dctInFolder(this.#folder.file('rack'), index + 1).dct;
  }

  keyOn(index: number): string | null {
    return classifyPrivateKey(this.dct(index).subarray(34, 34 + 1216)).publicKey?.fingerprint ?? null;
  }

  /** Every device replugged, in DFU mode: one that is still on its way out of it as well. */
  plugAll(): void {
    for (const device of this.rack.devices) {
      this.rack.unplug(device.busId);
      this.rack.plug(device.busId);
      this.rack.enterDfu(device.busId);
    }
  }

  /** null: the process died, or could not write its record. */
  async run(plan: RunPlan): Promise<RunSummary | null> {
    this.#faults.splice(0, this.#faults.length, ...plan.faults);
    this.cloud.setFaults(plan.cloud === null ? [] : [parseCloudFault(plan.cloud)]);
    const cut = new Cut(plan.cutAfter);
    const server = { key: 'keep', host: plan.host, port: null };
    const restore = plan.restore && (await this.#backupOf(plan.restore));
    if (plan.restore && !restore) return null;
    const job = restore ? restoreJob(restore.backupId, restore.dct) : loadJob(plan.job, JOBS_DIR, server);
    const deliverer = this.#deliverer(cut, 'run');
    const rows = this.rack.devices
      .map(({ deviceId }, index) => rowOf(deviceId, index + 2))
      .filter(({ deviceId }) => !restore || deviceId === restore.deviceId);
    try {
      const opened = await cut.around(() =>
        restore
          ? this.store.call('openRestore', {
              deviceId: restore.deviceId,
              backupId: restore.backupId,
              sha256: 'x',
              productId: null,
              why: null,
              at: Date.now(),
            })
          : this.store.call('openRun', {
              job: job.name,
              manifest: '/rack.csv',
              manifestSha256: 'x',
              rows: rows.map(row => ({ ...row, extra: {} })),
              again: plan.again,
              retryFailed: plan.retryFailed,
              quarantineAfter: 0,
              at: Date.now(),
            }),
      );
      return await runFleet(
        {
          runId: opened.runId,
          resumed: opened.resumed,
          manifest: '/rack.csv',
          before: opened.rows,
          concurrency: 8,
          perHub: 8,
          waitMs: 0,
          limit: null,
          maxFail: null,
          again: plan.again,
          leftOut: new Set<DeviceId>(),
          drain: new AbortController().signal,
          job,
          rows,
          buses: [cut.bus(simBus(this.rack))],
          unauthorized: () => deliverer.unauthorized,
          observer: event => {
            if (event.type === 'device' && event.outcome === 'pass') this.#foreign.delete(event.deviceId);
          },
        },
        {
          ledger: cut.methods(ledgerOf(this.store as unknown as Store)),
          fleetLedger: cut.methods({
            settleRow: settlement => this.store.call('settleRow', settlement),
            finishRun: run => this.store.call('finishRun', run),
          }),
          sender: plan.offline ? { deliver: () => Promise.resolve({ kind: 'pending', reason: 'offline' }) } : deliverer,
          vault: this.vault,
          makeKey: () => Promise.resolve(this.#pairs()),
          clock: this.#clock,
        },
      );
    } catch (error) {
      if (toFault(error).code !== 'DB_FAILED') throw error;
      return null;
    } finally {
      this.#faults.fill(null);
      for (const index of this.rack.devices.keys()) await hasLeft(this, index);
    }
  }

  async #backupOf({
    index,
    nth,
  }: {
    index: number;
    nth: number;
  }): Promise<{ deviceId: DeviceId; backupId: number; dct: Buffer } | null> {
    const deviceId = this.id(index);
    const all = (await this.store.call('sealedBackups', { afterBackupId: 0, limit: 1000 })).filter(
      one => one.deviceId === deviceId,
    );
    const one = all[nth % all.length];
    if (!one) return null;
    const dct = await this.vault.open(one.sealed, {
      purpose: 'backup',
      deviceId,
      generation: null,
      fingerprint: one.fingerprint,
    });
    return { deviceId, backupId: one.backupId, dct };
  }

  /** A replay beside or after the runs, which may die too. */
  async replay(cloud: string | null, cutAfter: number): Promise<void> {
    this.cloud.setFaults(cloud === null ? [] : [parseCloudFault(cloud)]);
    const cut = new Cut(cutAfter);
    await replayOnce({
      outbox: cut.methods(outboxOf(this.store as unknown as Store)),
      deliverer: this.#deliverer(cut, 'replay'),
      clock: this.#clock,
      concurrency: 4,
      deviceId: null,
      ignoreDue: true,
      stop: new AbortController().signal,
      onTried: () => undefined,
    }).catch((error: unknown) => {
      if (toFault(error).code !== 'DB_FAILED') throw error;
    });
  }

  /** Somebody else writes to a device that is there: other bytes in its key. */
  async meddle(index: number, bytes: Uint8Array): Promise<void> {
    const device = this.rack.devices[index]!;
    const port = (await simBus(this.rack).list()).find(({ path }) => path === device.busId);
    if (!port) return;
    await using dfu = await DfuDevice.open(port, this.#clock);
    await dfu.toIdle();
    await dfu.writeBlock(1, 34, bytes);
    this.#foreign.add(device.deviceId);
  }

  /** Every breach of the three promises so far. */
  async breaches(): Promise<string[]> {
    const witnesses = this.rack.devices.map(({ deviceId }, index) => ({
      deviceId,
      firstKey: this.#firstKeys[index] ?? null,
      dct: this.dct(index),
      told: this.cloud.keysOf(deviceId).map(({ fingerprint }) => fingerprint),
      maxInFlight: this.cloud.maxInFlight(deviceId),
    }));
    const now = recorded(this.#db);
    const gone = lost(this.#recorded, now);
    this.#recorded = now;
    return [...this.#breaches, ...gone, ...(await breaches(this.#db, this.vault, witnesses))];
  }

  #deliverer(cut: Cut, owner: 'run' | 'replay'): Deliverer {
    const real = createCloudClient({ url: this.cloud.url, token: new Secret(TOKEN), timeoutMs: 2000, insecure: false });
    return new Deliverer({
      outbox: cut.methods(outboxOf(this.store as unknown as Store)),
      client: cut.client(this.#watched(real, owner)),
      clock: this.#clock,
      owner: leaseOwner(owner).replace(/:\d+@/, ':999999999@'), // no process has this number, as after a crash
      timeoutMs: 2000,
      random: () => 0,
      onUnauthorized: () => undefined,
    });
  }

  /** B, at the very moment: what goes to the cloud is what lies on the device. */
  #watched(real: CloudClient, owner: 'run' | 'replay'): CloudClient {
    return {
      sendPublicKey: (send, signal) => {
        const index = this.rack.devices.findIndex(({ deviceId }) => deviceId === send.deviceId);
        const there = dctInFolder(join(this.#folder.file('rack')), index + 1).dct.subarray(34, 34 + 1216);
        const { publicKey } = classifyPrivateKey(there);
        // A replay can't know what somebody else did to a device; a run has just looked at it.
        const excused = owner === 'replay' && this.#foreign.has(send.deviceId);
        if (publicKey?.pem !== send.publicKeyPem && !excused) {
          this.#breaches.push(`B: ${send.deviceId}: a key is sent that is not the one on it`);
        }
        return real.sendPublicKey(send, signal);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    await this.cloud.close();
    await this.rack.close();
    this.#folder[Symbol.dispose]();
  }
}
