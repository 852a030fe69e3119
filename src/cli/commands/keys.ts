import type { CommandSpec } from '../command.ts';

export interface KeysArgs {
  readonly action: string;
  readonly what: string | undefined;
  readonly state: string | undefined;
  readonly count: number | undefined;
  readonly time: string | undefined;
  readonly why: string | undefined;
  readonly from?: string | undefined;
  readonly identity?: string | undefined;
  readonly json: boolean | undefined;
}

export const keysCommand: CommandSpec<KeysArgs> = {
  command: 'keys <action> [what] [state]',
  describe: 'Make keys ahead; which device has a key, which key was on a device, and which are compromised',
  options: yargs =>
    yargs
      .positional('action', {
        type: 'string',
        demandOption: true,
        choices: ['prepare', 'find', 'at', 'mark', 'server'],
        describe: 'make key pairs ahead, find a key, ask what was at a device, mark a key, or print a server key',
      })
      .positional('what', {
        type: 'string',
        describe: 'find, mark: a fingerprint, or its first digits (4 or more); at: a device ID',
      })
      .positional('state', {
        type: 'string',
        choices: ['compromised', 'destroyed'],
        describe: 'mark: what has become of the key',
      })
      .option('count', {
        type: 'number',
        requiresArg: true,
        describe: 'prepare: how many pairs to make, beside those that are there',
      })
      .option('time', {
        type: 'string',
        requiresArg: true,
        describe: 'at: 2026-05-03T09:00:00Z, or a date (the end of that day, UTC)',
      })
      .option('why', { type: 'string', requiresArg: true, describe: 'mark: the reason; goes on record' })
      .option('from', { type: 'string', requiresArg: true, describe: 'server: the device whose newest backup has it' })
      .option('identity', {
        type: 'string',
        requiresArg: true,
        describe: "server: a file with the identity of a recipient, where the station can't open its backups",
      })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [
    ['$0 keys prepare --count 120', 'key pairs for the next rack: sealed, and each used once'],
    ['$0 keys find 3fa9c1', 'every device that has, or had, a key whose fingerprint begins so'],
    ['$0 keys at 0a10aced202194944a0429d8 --time 2026-05-03', 'which key was on it at the end of that day'],
    ['$0 keys server --from 0a10aced202194944a0429d8', 'the key of the server that it trusts, as PEM for `server.key`'],
    ['$0 keys mark 3fa9c1d07788 compromised --why "laptop stolen"', 'then `run --only-compromised` re-keys'],
  ],
  run: async (args, context) =>
    args.action === 'prepare'
      ? (await import('../prepare-keys.ts')).prepareKeys(args, context)
      : args.action === 'server'
        ? (await import('../show-server-key.ts')).showServerKey(args, context)
        : (await import('../show-keys.ts')).tendKeys(args, context),
};
