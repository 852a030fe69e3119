import type { CommandSpec } from '../command.ts';

export interface OutboxArgs {
  readonly action: string | undefined;
  readonly device_id: string | undefined;
  readonly state: string | undefined;
  readonly why: string | undefined;
  readonly json: boolean | undefined;
}

const STATES = ['held', 'pending', 'accepted', 'done', 'refused', 'superseded', 'dropped'] as const;

export const outboxCommand: CommandSpec<OutboxArgs> = {
  command: 'outbox [action] [device_id]',
  describe: 'Sends and calls, and why they wait; `outbox retry ID`, `outbox drop ID --why "..."`',
  options: yargs =>
    yargs
      .positional('action', {
        type: 'string',
        choices: ['list', 'retry', 'drop'],
        describe: 'list [default], retry or drop',
      })
      .positional('device_id', { type: 'string', describe: 'Whose send and calls to retry or drop' })
      .option('state', { type: 'string', requiresArg: true, choices: STATES, describe: 'Only those in this state' })
      .option('why', { type: 'string', requiresArg: true, describe: 'Why they are dropped; goes on record' })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [
    ['$0 outbox --state pending', 'what `replay` would send'],
    ['$0 outbox retry 0a10aced202194944a0429d8', 'after the device has been claimed'],
    ['$0 outbox drop 0a10aced202194944a0429d8 --why "scrapped"', 'never send it'],
  ],
  run: async (args, context) => (await import('../tend-outbox.ts')).tendOutbox(args, context),
};
