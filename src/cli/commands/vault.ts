import type { CommandSpec } from '../command.ts';

export interface VaultArgs {
  readonly action: string;
  readonly policy: 'local' | 'escrow' | 'none' | undefined;
  readonly recipient: readonly string[] | undefined;
  readonly identity: string | undefined;
  readonly json: boolean | undefined;
}

export const vaultCommand: CommandSpec<VaultArgs> = {
  command: 'vault <action>',
  describe: 'vault init: bind how keys and backups are sealed; vault status; vault rewrap: seal them to others',
  options: yargs =>
    yargs
      .positional('action', {
        type: 'string',
        choices: ['init', 'status', 'rewrap'],
        demandOption: true,
        describe: 'init, status or rewrap',
      })
      .option('policy', {
        choices: ['local', 'escrow', 'none'] as const,
        requiresArg: true,
        describe: 'local: the station opens; escrow: only the recipients do; none: private keys are not kept',
      })
      .option('recipient', {
        type: 'string',
        array: true,
        requiresArg: true,
        nargs: 1,
        describe: 'Seal to this age recipient (age1...; may be repeated)',
      })
      .option('identity', {
        type: 'string',
        requiresArg: true,
        describe: 'rewrap: a file with the identity of one of the recipients so far',
      })
      .option('json', { type: 'boolean', describe: 'status: one JSON object' }),
  examples: [
    ['$0 vault init --policy escrow --recipient age1... --recipient age1...', 'before the first run'],
    ['$0 vault rewrap --identity /media/stick/escrow.txt', 'to the recipients of the configuration'],
  ],
  run: async (args, context) => (await import('../tend-vault.ts')).tendVault(args, context),
};
