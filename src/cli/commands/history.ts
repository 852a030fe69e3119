import type { CommandSpec } from '../command.ts';

export interface HistoryArgs {
  readonly device_id: string;
  readonly json: boolean | undefined;
}

export const historyCommand: CommandSpec<HistoryArgs> = {
  command: 'history <device_id>',
  describe: 'Every key, backup, attempt and send of one device',
  options: yargs =>
    yargs
      .positional('device_id', { type: 'string', demandOption: true, describe: '24 hex digits' })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [['$0 history 0a10aced202194944a0429d8', 'which keys this device has had']],
  run: async (args, context) => (await import('../show-history.ts')).showHistory(args, context),
};
