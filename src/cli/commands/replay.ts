import type { CommandSpec } from '../command.ts';

export interface ReplayArgs {
  readonly only: string | undefined;
  readonly now: boolean | undefined;
  readonly watch: boolean | undefined;
  readonly 'cloud-url': string | undefined;
  readonly json: boolean | undefined;
}

export const replayCommand: CommandSpec<ReplayArgs> = {
  command: 'replay',
  describe: 'Send the keys that wait for the cloud',
  options: yargs =>
    yargs
      .option('only', { type: 'string', requiresArg: true, describe: 'Only this device' })
      .option('now', { type: 'boolean', describe: 'Also those whose next try is not due yet (with --watch: at first)' })
      .option('watch', { type: 'boolean', describe: 'Go on as a service until Ctrl-C' })
      .option('cloud-url', {
        type: 'string',
        requiresArg: true,
        describe: "The cloud's API [default: https://api.particle.io]",
      })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [
    ['$0 replay', 'try each send that is due, once'],
    ['$0 replay --watch', 'a service that empties the outbox as it fills'],
  ],
  run: async (args, context) => (await import('../replay-outbox.ts')).replayOutbox(args, context),
};
