import { rackOptions } from '../command.ts';
import type { CommandSpec, RackArgs } from '../command.ts';

export interface RunArgs extends RackArgs {
  readonly manifest: string;
  readonly job: string | undefined;
  readonly wait: number | undefined;
  readonly watch: boolean | undefined;
  readonly limit: number | undefined;
  readonly only: string | undefined;
  readonly 'only-compromised': boolean | undefined;
  readonly offline: boolean | undefined;
  readonly plan: boolean | undefined;
  readonly 'retry-failed': boolean | undefined;
  readonly again: boolean | undefined;
  readonly 'enter-dfu': boolean | undefined;
  readonly confirm: string | undefined;
  readonly prove: boolean | undefined;
  readonly concurrency: number | undefined;
  readonly 'per-hub': number | undefined;
  readonly 'max-fail': string | undefined;
  readonly 'cloud-url': string | undefined;
  readonly sim: string | undefined;
  readonly json: boolean | undefined;
}

export const runCommand: CommandSpec<RunArgs> = {
  command: 'run <manifest>',
  describe: 'Work on every device of a manifest that is there, or comes',
  options: yargs =>
    rackOptions(
      yargs
        .positional('manifest', { type: 'string', demandOption: true, describe: 'A CSV with a column device_id' })
        .option('job', {
          type: 'string',
          requiresArg: true,
          describe: 'rekey, repair, provision, backup, server-key, or a YAML file [default: rekey]',
        })
        .option('wait', {
          type: 'number',
          requiresArg: true,
          describe: 'End when no device came for this many seconds [default: 30]',
        })
        .option('watch', { type: 'boolean', describe: 'Go on until every row is settled, or Ctrl-C' })
        .option('limit', { type: 'number', requiresArg: true, describe: 'Begin with at most this many devices' })
        .option('only', { type: 'string', requiresArg: true, describe: 'Only these device IDs (ID,ID,...)' })
        .option('only-compromised', {
          type: 'boolean',
          describe: 'Only devices with a key that is marked compromised: they get a new one, settled or not',
        })
        .option('offline', { type: 'boolean', describe: 'Send nothing: keys wait in the outbox for `replay`' })
        .option('plan', { type: 'boolean', describe: 'Say what would be done, and touch nothing' })
        .option('retry-failed', { type: 'boolean', describe: 'Work again on rows that failed or were refused' })
        .option('again', { type: 'boolean', describe: 'Begin anew on settled rows too' })
        .option('enter-dfu', {
          type: 'boolean',
          describe: 'Switch listed devices that are in normal mode into DFU mode',
        })
        .option('confirm', {
          choices: ['normal'],
          requiresArg: true,
          describe: 'A device passes only when it is back in normal mode after leaving',
        })
        .option('prove', {
          type: 'boolean',
          describe:
            "Shake hands with the cloud as the device will, before it leaves: a key that can't connect is taken back",
        })
        .option('concurrency', { type: 'number', requiresArg: true, describe: 'Devices at once [default: 128]' })
        .option('per-hub', { type: 'number', requiresArg: true, describe: 'Devices at once on one hub [default: 64]' })
        .option('max-fail', {
          type: 'string',
          requiresArg: true,
          describe: 'Begin no more when more than N, or N%, have failed',
        })
        .option('cloud-url', {
          type: 'string',
          requiresArg: true,
          describe: "The cloud's API [default: https://api.particle.io]",
        })
        .option('sim', {
          type: 'string',
          requiresArg: true,
          describe: "On a virtual rack of N Photons (or NxHUBS) with the manifest's IDs",
        })
        .option('json', { type: 'boolean', describe: 'One JSON object a line' }),
    ),
  examples: [
    ['$0 run rack.csv', 'a new key for every listed device'],
    ['$0 run rack.csv --plan', 'what would be done'],
    ['$0 run rack.csv --only-compromised', 'a new key where `keys mark` says that it is needed'],
    ['$0 run rack.csv --job provision', 'first provisioning: key, claim code, product and name'],
    ['$0 run rack.csv --job backup', 'save keys and settings, write nothing'],
    ['$0 run rack.csv --sim 24x3', 'try it without hardware'],
  ],
  run: async (args, context) => (await import('../run-manifest.ts')).runManifest(args, context),
};
