import { sha256Hex, wipe } from '../core/bytes.ts';
import { systemClock, timestamp } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault, toFault } from '../core/errors.ts';
import type { RunObserver } from '../core/events.ts';
import type { Config } from '../config/config.ts';
import { runFleet } from '../fleet/run-fleet.ts';
import type { Job } from '../job/job.ts';
import { restoreJob } from '../job/restore-job.ts';
import { DCT } from '../photon/dct.ts';
import type { Output } from '../report/terminal.ts';
import { databaseExists } from '../store/database-file.ts';
import type { KnownBackup, Restorable } from '../store/ops/restores.ts';
import type { Store } from '../store/store.ts';
import type { UsbBus } from '../usb/port.ts';
import type { Vault } from '../vault/vault.ts';
import { auditedSettings, compareWithCopies, sealJournal } from './audit-checkpoint.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { RestoreArgs } from './commands/restore.ts';
import { checkCloud, configOf, openBuses, openRecord, openRecordForWork, openVault, tokenOf } from './compose.ts';
import type { StationVault } from './compose.ts';
import { onInterrupt } from './interrupt.ts';
import { fleetParts, reportOf, senderOf } from './run-manifest.ts';

/** `restore`: a run over one device that writes a backup's keys back. @returns the exit code */
export async function restore(args: RestoreArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = parseDeviceId(args.device_id);
  if (!deviceId) throw new Fault('USAGE', 'that is no device ID', { hint: 'a device ID has 24 hex digits' });
  const { backup } = args;
  if (backup !== undefined && (!Number.isSafeInteger(backup) || backup < 1)) {
    throw new Fault('USAGE', '--backup takes the number of a backup', { hint: '`photon-fleet history ID` lists them' });
  }
  const config = configOf(
    args,
    { wait: args.wait, racks: args.rack, insecureRack: args['insecure-rack'], 'cloud.url': args['cloud-url'] },
    context,
  );
  const { db } = config.values;
  // A record that is not there is a fault, and is not made.
  await using store = await (databaseExists(db) ? openRecordForWork(config, context.env, true) : openRecord(config));
  await compareWithCopies(config, store);
  const found = await store.call('restorable', deviceId);
  const chosen = chooseBackup(deviceId, found, backup ?? null);
  const vault = await openVault(config, store, {
    warn: message => context.out.talk(`warning: ${message}`),
    ...(args.identity !== undefined && { identityFile: args.identity }),
  });
  const job = await readBackup(store, vault, deviceId, chosen);
  try {
    return await putBack({ args, context, config, store, vault, job, deviceId, chosen, found });
  } finally {
    wipe(job.plan.restore?.block);
  }
}

interface PutBack {
  readonly args: RestoreArgs & GlobalArgs;
  readonly context: CommandContext;
  readonly config: Config;
  readonly store: Store;
  readonly vault: StationVault;
  readonly job: Job;
  readonly deviceId: DeviceId;
  readonly chosen: KnownBackup;
  readonly found: Restorable;
}

async function putBack(p: PutBack): Promise<number> {
  const { args, context, config, store, vault, job, deviceId, chosen, found } = p;
  const token = args.offline === true || !job.plan.sends ? null : tokenOf(config, context);
  if (token) checkCloud(config, config.values.cloud.url, token);
  const report = await reportOf({ args, context, config });
  let buses: readonly UsbBus[] = [];
  try {
    buses = await openBuses(config);
    await store.call('noteConfiguration', auditedSettings(config));
    const { deliverer, sender } = senderOf({ config, token, simulation: null }, store);
    sayWhat(chosen, job, context.out);
    const productId = found.productId ?? config.values.cloud.productId;
    const why = args.why?.trim() ?? '';
    using interrupt = interruptible(context.out);
    const { runId, resumed, manifest, rows } = await store.call('openRestore', {
      deviceId,
      backupId: chosen.backupId,
      sha256: chosen.sha256,
      productId,
      why: why === '' ? null : why,
      at: systemClock.now(),
    });
    const summary = await runFleet(
      {
        runId,
        resumed,
        job,
        manifest,
        rows: [{ deviceId, line: 1, port: null, name: null, productId, extra: {} }],
        before: rows,
        leftOut: new Set<DeviceId>(),
        buses,
        concurrency: config.values.concurrency,
        perHub: config.values.perHub,
        waitMs: config.values.wait * 1000,
        limit: null,
        again: false,
        maxFail: null,
        drain: interrupt.signal,
        unauthorized: () => deliverer?.unauthorized ?? null,
        observer: ofOneDevice(report.observer, context.out),
      },
      fleetParts(store, vault.forRun(runId), sender),
    );
    for (const problem of await vault.tidy()) context.out.talk(`warning: ${problem}`);
    await sealJournal(config, store, context);
    return summary.exitCode;
  } finally {
    report.close();
    await Promise.all(buses.map(bus => bus.close()));
  }
}

/**
 * The backup by its number; else that of a restore which was cut short, or the newest one with a key that is neither the
 * one on the device nor marked by a hand.
 * @throws Fault BACKUP_NOT_FOUND
 */
export function chooseBackup(deviceId: DeviceId, found: Restorable, wanted: number | null): KnownBackup {
  const whole = found.backups.filter(({ bytes }) => bytes === DCT.LENGTH);
  const numbers = whole.map(({ backupId }) => backupId).join(', ');
  const hint =
    numbers === ''
      ? 'no whole backup of it was ever taken'
      : `its backups: ${numbers}; \`photon-fleet history ${deviceId}\` tells what each holds`;
  if (wanted === null) {
    const begun = whole.find(({ backupId }) => backupId === found.begun);
    if (begun) return begun;
    const others = whole.filter(({ fingerprint: key }) => key !== null && key !== found.activeFingerprint);
    const other = others.findLast(({ mark }) => mark === null);
    if (other) return other;
    const what = others.length > 0 ? 'another key that is not marked' : 'another key than the one on it';
    throw new Fault('BACKUP_NOT_FOUND', `no backup of device ${deviceId} holds ${what}`, {
      hint: numbers === '' ? hint : `name one with --backup N; ${hint}`,
    });
  }
  const named = found.backups.find(({ backupId }) => backupId === wanted);
  if (!named) throw new Fault('BACKUP_NOT_FOUND', `device ${deviceId} has no backup ${wanted}`, { hint });
  if (!whole.includes(named)) {
    const what = `${named.bytes} bytes, ${named.classification}`;
    throw new Fault('BACKUP_NOT_FOUND', `backup ${wanted} is no whole DCT (${what}): it can't be put back`, {
      hint: `it can be opened with the \`age\` program; ${hint}`,
    });
  }
  return named;
}

/** @throws Fault VAULT_SEALED_WRONG, VAULT_CLOSED */
async function readBackup(
  store: Store,
  vault: Vault,
  deviceId: DeviceId,
  { backupId, sha256, fingerprint }: KnownBackup,
): Promise<Job> {
  const [backup] = await store.call('sealedBackups', { afterBackupId: backupId - 1, limit: 1 });
  if (backup?.backupId !== backupId) throw new Fault('BUG', `backup ${backupId} is not there any more`);
  let dct: Buffer;
  try {
    dct = await vault.open(backup.sealed, { purpose: 'backup', deviceId, generation: null, fingerprint });
  } catch (thrown) {
    if (toFault(thrown).code !== 'VAULT_CLOSED') throw thrown;
    // Its own hint speaks of what a run has begun.
    throw new Fault('VAULT_CLOSED', `backup ${backupId} of device ${deviceId} is sealed to nobody who is here`, {
      cause: thrown,
    });
  }
  try {
    if (dct.length !== DCT.LENGTH || sha256Hex(dct) !== sha256) {
      throw new Fault('VAULT_SEALED_WRONG', `backup ${backupId} of device ${deviceId} is not the one that was hashed`);
    }
    return restoreJob(backupId, dct);
  } finally {
    wipe(dct);
  }
}

function sayWhat({ backupId, takenAt, fingerprint, mark }: KnownBackup, job: Job, out: Output): void {
  const what = fingerprint === null ? 'without a key' : `with the key ${fingerprint.slice(0, 16)}`;
  out.talk(`backup ${backupId} of ${timestamp(takenAt)}, ${what}, is put back`);
  const warning = job.plan.restore?.warning;
  if (warning) out.talk(`warning: ${warning.message}`);
  if (mark !== null) out.talk(`warning: this key is marked as ${mark}`);
}

function interruptible(out: Output): Disposable & { readonly signal: AbortSignal } {
  const { signal, dispose } = onInterrupt(
    out,
    'stopping: a device that is being written finishes first (Ctrl-C again cuts)',
  );
  return { signal, [Symbol.dispose]: dispose };
}

/** The others on the bus are nobody's business here, as long as they can say who they are. */
function ofOneDevice(observer: RunObserver, out: Output): RunObserver {
  return event => {
    if (event.type === 'stranger' && event.code === null) return;
    observer(event);
    const isNote = event.type === 'device' && event.outcome === 'pass' && event.hint === null;
    if (isNote && event.message !== null) out.talk(`note: ${event.message}`);
  };
}
