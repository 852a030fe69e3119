import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import type { CommandContext, GlobalArgs } from './command.ts';
import { runManifest } from './run-manifest.ts';

const DEVICES = 24;
const HUBS = 3;

/** `demo`: a manifest, a record and a key store of its own in a fresh folder, so that what it leaves can be looked at. */
export async function runDemo(args: GlobalArgs, context: CommandContext): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'photon-fleet-demo-'));
  const manifest = join(folder, 'rack.csv');
  const db = args.db ?? join(folder, 'photon-fleet.db');
  const rows = Array.from({ length: DEVICES }, (_, index) => {
    const id = createHash('sha256').update(`photon-fleet demo ${index}`).digest('hex').slice(0, 24);
    // The rack fills its hubs in turn.
    const hub = String.fromCharCode(65 + (index % HUBS));
    return `${id},${hub}-${String(Math.floor(index / HUBS) + 1).padStart(2, '0')}`;
  });
  writeFileSync(manifest, ['device_id,name', ...rows, ''].join('\n'), { mode: 0o600 });
  context.out.talk(
    `a virtual rack: ${DEVICES} Photons on ${HUBS} hubs, and a virtual cloud; the record is real: ${db}`,
  );
  const none = undefined;
  return runManifest(
    {
      manifest,
      db,
      config: args.config,
      verbose: args.verbose,
      log: args.log,
      sim: `${DEVICES}x${HUBS}`,
      job: none,
      wait: none,
      watch: none,
      limit: none,
      only: none,
      'only-compromised': none,
      offline: none,
      plan: none,
      'retry-failed': none,
      again: none,
      'enter-dfu': none,
      confirm: none,
      prove: none,
      concurrency: none,
      'per-hub': none,
      'max-fail': none,
      'cloud-url': none,
      rack: none,
      'insecure-rack': none,
      json: none,
    },
    context,
  );
}
