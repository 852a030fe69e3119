import type { CommandSpec } from '../command.ts';

export interface ReleaseArgs {
  readonly device_id: string;
  readonly why: string | undefined;
  readonly json: boolean | undefined;
}

export const releaseCommand: CommandSpec<ReleaseArgs> = {
  command: 'release <device_id>',
  describe: 'Let a device in quarantine take part again',
  options: yargs =>
    yargs
      .positional('device_id', { type: 'string', demandOption: true, describe: '24 hex digits' })
      .option('why', { type: 'string', requiresArg: true, describe: 'What was done about it; goes on record' })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [['$0 release 0a10aced202194944a0429d8 --why "new cable"', 'the next `run` works on it again']],
  run: async (args, context) => (await import('../release-device.ts')).release(args, context),
};
