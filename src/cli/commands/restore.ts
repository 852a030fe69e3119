import { rackOptions } from '../command.ts';
import type { CommandSpec, RackArgs } from '../command.ts';

export interface RestoreArgs extends RackArgs {
  readonly device_id: string;
  readonly backup: number | undefined;
  readonly identity: string | undefined;
  readonly why: string | undefined;
  readonly wait: number | undefined;
  readonly offline: boolean | undefined;
  readonly 'cloud-url': string | undefined;
  readonly json: boolean | undefined;
}

export const restoreCommand: CommandSpec<RestoreArgs> = {
  command: 'restore <device_id>',
  describe: "Write a backup's keys back onto its device, and tell the cloud",
  options: yargs =>
    rackOptions(
      yargs
        .positional('device_id', { type: 'string', demandOption: true, describe: '24 hex digits' })
        .option('backup', {
          type: 'number',
          requiresArg: true,
          describe: "Its number in `history` [default: the newest one with another key than the device's]",
        })
        .option('identity', {
          type: 'string',
          requiresArg: true,
          describe: "An age identity that opens the backup, where the station itself can't",
        })
        .option('why', { type: 'string', requiresArg: true, describe: 'Why; goes on record' })
        .option('wait', {
          type: 'number',
          requiresArg: true,
          describe: 'Wait this many seconds for the device [default: 30]',
        })
        .option('offline', { type: 'boolean', describe: 'Send nothing: the key waits in the outbox for `replay`' })
        .option('cloud-url', {
          type: 'string',
          requiresArg: true,
          describe: "The cloud's API [default: https://api.particle.io]",
        })
        .option('json', { type: 'boolean', describe: 'One JSON object a line' }),
    ),
  examples: [
    ['$0 restore 0a10aced202194944a0429d8 --why "wrong batch"', 'the keys that it had before'],
    ['$0 restore 0a10aced202194944a0429d8 --backup 3 --identity escrow.txt', 'a backup sealed to an escrow'],
  ],
  run: async (args, context) => (await import('../restore-device.ts')).restore(args, context),
};
