import type { CommandSpec } from '../command.ts';

export interface StatusArgs {
  readonly run: number | undefined;
  readonly json: boolean | undefined;
}

export const statusCommand: CommandSpec<StatusArgs> = {
  command: 'status [run]',
  describe: "A run's rows and totals; the newest run if none is named",
  options: yargs =>
    yargs
      .positional('run', { type: 'number', describe: "The run's number" })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [
    ['$0 status', 'how the newest run stands'],
    ['$0 status 7 --json', 'run 7, for a program'],
  ],
  run: async (args, context) => (await import('../show-status.ts')).showStatus(args, context),
};
