import type { Config } from '../config/config.ts';
import { Fault } from '../core/errors.ts';
import type { Job } from '../job/job.ts';
import type { Manifest, ManifestRow } from '../manifest/manifest.ts';
import { databaseExists } from '../store/database-file.ts';
import type { Store } from '../store/store.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { RunArgs } from './commands/run.ts';
import { openRecord } from './compose.ts';

interface Selection {
  readonly rows: readonly ManifestRow[];
  readonly job: Job;
  readonly manifest: Manifest;
}

/**
 * `run --only-compromised`: the rows whose device carries a key that is marked compromised, or is about to lose one.
 * @throws Fault USAGE for a job that would leave the key where it is
 */
export async function selectCompromised(
  selection: Selection & { args: RunArgs & GlobalArgs; config: Config },
): Promise<readonly ManifestRow[]> {
  const { rows, job, config } = selection;
  if (!job.plan.newKey) {
    throw new Fault('USAGE', `--only-compromised: the job ${job.name} makes no new key`, {
      hint: 'use the job `rekey`',
    });
  }
  if (!databaseExists(config.values.db)) return []; // nothing can be marked where nothing is on record
  await using store = await openRecord(config);
  return await compromised(store, { ...selection, rows });
}

async function compromised(store: Store, { rows, job, manifest }: Selection): Promise<readonly ManifestRow[]> {
  const found = new Set(
    await store.call('compromisedDevices', {
      job: job.name,
      manifest: manifest.path,
      deviceIds: rows.map(row => row.deviceId),
    }),
  );
  return rows.filter(row => found.has(row.deviceId));
}

/** A row that was settled all the same may have kept its key: a crash had left its device at its last step, say. */
export async function warnStillCompromised(
  selection: Selection & { store: Store },
  { out }: CommandContext,
): Promise<void> {
  const left = await compromised(selection.store, selection);
  if (left.length === 0) return;
  out.talk(`${left.length === 1 ? '1 device carries' : `${left.length} devices carry`} a compromised key still`);
  out.talk('hint: `photon-fleet run` with --only-compromised again works on them, once they are in DFU mode');
}

/** Nothing is to be done, and nothing is touched. */
export function tellNoneCompromised({ only }: RunArgs, { out }: CommandContext): number {
  const where = only === undefined ? 'in the manifest' : 'named by --only';
  out.talk(`no device ${where} carries a key that is marked compromised: nothing to do`);
  return 0;
}
