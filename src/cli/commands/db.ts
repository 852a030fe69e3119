import type { CommandSpec } from '../command.ts';

export interface DbArgs {
  readonly action: string;
  readonly file: string | undefined;
}

export const dbCommand: CommandSpec<DbArgs> = {
  command: 'db <action> [file]',
  describe: 'db backup FILE: a whole copy of the record; db check: integrity and invariants',
  options: yargs =>
    yargs
      .positional('action', {
        type: 'string',
        choices: ['backup', 'check'],
        demandOption: true,
        describe: 'backup or check',
      })
      .positional('file', { type: 'string', describe: 'Where the copy goes' }),
  examples: [
    ['$0 db backup /mnt/safe/fleet-2026-05-03.db', 'never copy the file itself: part of it may lie in the WAL'],
    ['$0 db check', 'is the record whole?'],
  ],
  run: async (args, context) => (await import('../tend-db.ts')).tendDb(args, context),
};
