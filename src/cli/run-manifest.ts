import { statSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import type { Config } from '../config/config.ts';
import { systemClock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import type { DeviceSettled, RunObserver } from '../core/events.ts';
import type { Sender } from '../core/ledger.ts';
import type { Prover } from '../core/prover.ts';
import type { Secret } from '../core/secret.ts';
import { offlineSender } from '../cloud/deliver.ts';
import type { Deliverer } from '../cloud/deliver.ts';
import { offlineCaller } from '../cloud/deliver-calls.ts';
import type { FleetParts } from '../fleet/options.ts';
import { runFleet } from '../fleet/run-fleet.ts';
import { confirmModules } from '../job/confirm-modules.ts';
import { withProof } from '../job/add-prove.ts';
import { loadJob } from '../job/job.ts';
import { rowFirmware } from '../job/row-firmware.ts';
import type { Job } from '../job/job.ts';
import { makeKeyPair } from '../keys/make-key-pair.ts';
import type { Manifest, ManifestRow } from '../manifest/manifest.ts';
import { readManifest } from '../manifest/read-manifest.ts';
import { ndjsonReport } from '../report/json.ts';
import { plainReport } from '../report/plain.ts';
import { callOutboxOf, ledgerOf } from '../store/ledger.ts';
import type { Store } from '../store/store.ts';
import type { UsbBus } from '../usb/port.ts';
import type { Vault } from '../vault/vault.ts';
import { suppliedKeys } from './key-pool.ts';
import type { CommandContext } from './command.ts';
import type { RunArgs } from './commands/run.ts';
import type { GlobalArgs } from './command.ts';
import {
  callDelivererOf,
  checkCloud,
  configOf,
  delivererOf,
  openBuses,
  openRecordForWork,
  openVault,
  proverOf,
  tokenOf,
} from './compose.ts';
import { selectCompromised, tellNoneCompromised, warnStillCompromised } from './only-compromised.ts';
import { onInterrupt } from './interrupt.ts';
import { auditedSettings, compareWithCopies, sealJournal } from './audit-checkpoint.ts';
import { openRun } from './open-run.ts';
import { optimizeLater } from './optimize-later.ts';
import type { PlanInput } from './plan-run.ts';
import { openSimulation, parseSim } from './simulation.ts';
import type { Simulated } from './simulation.ts';
import { checkWish } from './vault-choice.ts';

const JOBS_DIR = fileURLToPath(new URL('../../jobs', import.meta.url));

const LONG_BYTES = 500_000;

/** Each of many rows leaves some garbage, and little that stays: then it is not left lying until the heap has doubled. */
function isLong(path: string): boolean {
  try {
    return statSync(path).size > LONG_BYTES;
  } catch {
    return false; // whoever reads it says why it can't be read
  }
}

/**
 * `photon-fleet run`: everything that can be wrong is found before anything is touched.
 * @param made a rack and a cloud that whoever calls has made, and closes
 * @returns the exit code
 */
export async function runManifest(
  args: RunArgs & GlobalArgs,
  context: CommandContext,
  made: Simulated | null = null,
): Promise<number> {
  checkArgs(args);
  const config = configOf(
    args,
    {
      job: args.job,
      wait: args.wait,
      concurrency: args.concurrency,
      perHub: args['per-hub'],
      maxFail: args['max-fail'],
      racks: args.rack,
      insecureRack: args['insecure-rack'],
      'cloud.url': args['cloud-url'],
    },
    context,
  );
  const sim = args.sim === undefined ? null : parseSim(args.sim);
  // This host's bus is looked at while all that comes before it is read; a rack may be slow to answer, and is asked when all is well.
  const looked = sim || made || config.values.racks.length > 0 ? null : openBuses(config);
  looked?.catch(() => undefined); // told where it is waited for
  const { systemPart1, systemPart2, userPart } = config.values.firmware;
  const listed = loadJob(config.values.job, JOBS_DIR, config.values.server, {
    'system-part1': systemPart1,
    'system-part2': systemPart2,
    'user-part': userPart,
  });
  if (listed.plan.firmware) await confirmModules(listed.plan.firmware);
  const job = args.prove ? withProof(listed) : listed;
  const prove = job.steps.some(({ name }) => name === 'prove');
  if (args.confirm !== undefined && !job.plan.leaves) {
    throw new Fault('USAGE', `--confirm: the job ${job.name} does not let devices leave DFU mode`, {
      hint: 'use a job with the step `leave`',
    });
  }
  if (isLong(args.manifest)) setFlagsFromString('--heap-growing-percent=10');
  const manifest = await readManifest(args.manifest, { sockets: config.values.sockets });
  const selected = selectRows(manifest, args.only);
  const chosen = args['only-compromised']
    ? await selectCompromised({ rows: selected, args, config, job, manifest })
    : selected;
  if (args['only-compromised'] && chosen.length === 0) return tellNoneCompromised(args, context);
  const { productId } = config.values.cloud;
  const rows = chosen.map(row => (row.productId === null && productId !== null ? { ...row, productId } : row));
  const firmware = job.plan.firmware ? rowFirmware(job.plan.firmware, rows, manifest.path) : undefined;
  for (const modules of new Set(firmware?.values())) await confirmModules(modules);
  const { sends, claims, calls = [] } = job.plan;
  if (args.offline && claims) {
    throw new Fault('USAGE', `the job ${job.name} fetches claim codes, which can't be had with --offline`, {
      hint: 'leave --offline away, or use a job without the step `claim-code`',
    });
  }
  const asks = sends || claims === true || calls.length > 0;
  const offline = args.offline === true || !asks;
  const needsToken = !offline && args.plan !== true;
  await using opened = sim ? await openSimulation(sim, manifest, config, needsToken ? context : null, { prove }) : null;
  const simulation = made ?? opened;
  const prover = prove ? proverOf(config, simulation?.server ?? null) : undefined;
  const token = needsToken ? (simulation?.token ?? tokenOf(config, context)) : null;
  checkWish(config);
  if (token) checkCloud(config, simulation?.cloudUrl ?? config.values.cloud.url, token);
  const buses = simulation?.buses ?? (await (looked ?? openBuses(config)));
  try {
    if (args.plan) {
      return await plan({ job, manifest, rows, buses, config, args, out: context.out });
    }
    return await provision({ args, context, config, job, manifest, rows, buses, token, simulation, prover, firmware });
  } finally {
    await Promise.all(buses.map(bus => bus.close()));
  }
}

/** Loaded when it is asked for: it draws tables. */
async function plan(parts: PlanInput): Promise<number> {
  return (await import('./plan-run.ts')).planRun(parts);
}

interface Provision {
  readonly args: RunArgs & GlobalArgs;
  readonly context: CommandContext;
  readonly config: Config;
  readonly job: Job;
  readonly manifest: Manifest;
  readonly rows: readonly ManifestRow[];
  readonly buses: readonly UsbBus[];
  readonly token: Secret<string> | null;
  readonly simulation: Simulated | null;
  readonly prover: Prover | undefined;
  readonly firmware: ReturnType<typeof rowFirmware> | undefined;
}

async function provision(p: Provision): Promise<number> {
  const { args, context, config, job, manifest, rows, buses } = p;
  const report = await reportOf(p);
  await using store = await openRecordForWork(config, context.env, p.simulation === null);
  await compareWithCopies(config, store);
  await store.call('noteConfiguration', auditedSettings(config));
  const warn = (message: string): void => context.out.talk(`warning: ${message}`);
  const vault = await openVault(config, store, { warn });
  const { deliverer, sender, ...callers } = senderOf(p, store);
  const interrupt = onInterrupt(
    context.out,
    'stopping: devices that are being written finish first (Ctrl-C again cuts)',
  );
  try {
    const opened = await openRun(
      store,
      {
        job: job.name,
        manifest: manifest.path,
        manifestSha256: manifest.sha256,
        partly: args.only !== undefined || args['only-compromised'] === true,
        again: args.again === true,
        retryFailed: args['retry-failed'] === true,
        onlyCompromised: args['only-compromised'] === true,
        quarantineAfter: config.values.quarantineAfter,
        at: systemClock.now(),
      },
      rows,
    );
    await using keys = await suppliedKeys(store, vault.forPrepared(), warn);
    optimizeLater();
    const summary = await runFleet(
      {
        runId: opened.runId,
        resumed: opened.resumed,
        job,
        manifest: manifest.path,
        rows,
        before: opened.before,
        leftOut: leftOut(manifest, rows),
        buses,
        concurrency: config.values.concurrency,
        perHub: config.values.perHub,
        waitMs: args.watch ? null : config.values.wait * 1000,
        limit: args.limit ?? null,
        again: args.again === true || args['only-compromised'] === true,
        ...(p.firmware && { rowFirmware: p.firmware }),
        enterDfu: args['enter-dfu'] === true,
        confirm: args.confirm === 'normal' ? 'normal' : null,
        maxFail: config.values.maxFail,
        drain: interrupt.signal,
        unauthorized: () => deliverer?.unauthorized ?? null,
        observer: report.observer,
      },
      {
        ...fleetParts(store, vault.forRun(opened.runId), sender),
        ...callers,
        ...keys.parts,
        ...(p.prover && { prover: p.prover }),
      },
    );
    await keys[Symbol.asyncDispose](); // a working identity of prepared pairs may not be needed any more
    for (const problem of await vault.tidy()) warn(problem);
    if (args['only-compromised']) await warnStillCompromised({ store, rows, job, manifest }, context);
    await sealJournal(config, store, context);
    return summary.exitCode;
  } finally {
    interrupt.dispose();
    report.close();
  }
}

/** What a fleet works with, all of it real. */
export function fleetParts(store: Store, vault: Vault, sender: Sender): FleetParts {
  return {
    ledger: ledgerOf(store),
    fleetLedger: {
      settleRow: settlement => store.call('settleRow', settlement),
      finishRun: run => store.call('finishRun', run),
    },
    sender,
    vault,
    makeKey: makeKeyPair,
    clock: systemClock,
  };
}

/** @param p.token null: everything stays in the outbox */
export function senderOf(
  p: Pick<Provision, 'config' | 'token' | 'simulation'>,
  store: Store,
): { deliverer: Deliverer | null; sender: Sender } & Required<Pick<FleetParts, 'caller'>> &
  Pick<FleetParts, 'claimer'> {
  if (p.token === null) {
    return { deliverer: null, sender: offlineSender, caller: offlineCaller(callOutboxOf(store), systemClock) };
  }
  const how = {
    token: p.token,
    url: p.simulation?.cloudUrl ?? p.config.values.cloud.url,
    owner: 'run',
  } as const;
  const deliverer = delivererOf(p.config, store, {
    ...how,
    onUnauthorized: () => undefined, // the fleet asks, and says it
  });
  const calls = callDelivererOf(p.config, store, { ...how, deliverer });
  return { deliverer, sender: deliverer, caller: calls, claimer: calls };
}

export async function reportOf({
  args,
  context,
  config,
}: {
  readonly args: Pick<RunArgs & GlobalArgs, 'json' | 'db'>;
  readonly context: CommandContext;
  readonly config: Config;
}): Promise<{ observer: RunObserver; close: () => void }> {
  const { out } = context;
  const { verbose, log } = config.values;
  const next = (devices: readonly DeviceSettled[]): string[] => nextCommands(devices, args.db);
  const live = process.stdout.isTTY && process.stderr.isTTY && !verbose;
  const observers: RunObserver[] = [];
  if (args.json) observers.push(ndjsonReport(line => out.result(line)));
  else if (live) {
    const { liveReport } = await import('../report/live-view.ts');
    observers.push(liveReport(process.stderr, out, { verbose, next }));
  } else observers.push(plainReport(out, { verbose, next }));
  if (log === null) return { observer: observers[0] ?? (() => undefined), close: () => undefined };
  const { openLogFile } = await import('../report/log-file.ts');
  const file = openLogFile(log, verbose);
  observers.push(file.observer);
  return {
    observer: event => {
      for (const observer of observers) observer(event);
    },
    close: () => file.close(),
  };
}

function nextCommands(devices: readonly DeviceSettled[], db: string | undefined): string[] {
  const shown = devices.find(({ outcome }) => outcome === 'pass') ?? devices.find(({ path }) => path !== null);
  if (!shown) return [];
  const args = `history ${shown.deviceId}${db === undefined ? '' : ` --db ${db}`}`;
  const script = process.argv[1] ?? '';
  const linked = !script.endsWith('.js'); // by its name on the PATH
  return [`next: photon-fleet ${args}`, ...(linked ? [] : [`  or: node ${relative(process.cwd(), script)} ${args}`])];
}

function checkArgs(args: RunArgs): void {
  if (args.limit !== undefined && (!Number.isInteger(args.limit) || args.limit < 1)) {
    throw new Fault('USAGE', '--limit takes a whole number from 1 on');
  }
  if (args.sim !== undefined && args.rack !== undefined) {
    throw new Fault('USAGE', '--sim and --rack exclude each other');
  }
  if (args['only-compromised'] && (args.again || args['retry-failed'])) {
    const other = args.again ? '--again' : '--retry-failed';
    throw new Fault('USAGE', `--only-compromised begins anew on its rows by itself: ${other} adds nothing`, {
      hint: 'use one of the two',
    });
  }
  if (args.again && args['retry-failed']) {
    throw new Fault('USAGE', '--again works on failed rows too: --retry-failed adds nothing', {
      hint: 'use one of the two',
    });
  }
}

/** What the manifest has and --only does not name. */
function leftOut(manifest: Manifest, rows: readonly ManifestRow[]): Set<DeviceId> {
  if (rows.length === manifest.rows.length) return new Set();
  const left = new Set(manifest.rows.map(row => row.deviceId));
  for (const row of rows) left.delete(row.deviceId);
  return left;
}

function selectRows(manifest: Manifest, only: string | undefined): readonly ManifestRow[] {
  if (only === undefined) return manifest.rows;
  const wanted = new Set<DeviceId>();
  for (const text of only.split(',')) {
    const id = parseDeviceId(text);
    if (!id)
      throw new Fault('USAGE', `--only: ${JSON.stringify(text.slice(0, 40))} is no device ID`, {
        hint: 'a device ID has 24 hex digits',
      });
    wanted.add(id);
  }
  const rows = manifest.rows.filter(row => wanted.has(row.deviceId));
  const missing = [...wanted].filter(id => !rows.some(row => row.deviceId === id));
  if (missing.length > 0) {
    throw new Fault('USAGE', `--only: ${missing.join(', ')} is not in the manifest`, { hint: 'check the ID' });
  }
  return rows;
}
