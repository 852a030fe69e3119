import type { CommandSpec } from '../command.ts';

interface DbArgs {
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
  run: async (args, context) => {
    const [{ configOf, openRecord }, { Fault }, { EXIT }, path] = await Promise.all([
      import('../compose.ts'),
      import('../../core/errors.ts'),
      import('../exit-codes.ts'),
      import('node:path'),
    ]);
    if (args.action === 'backup' && args.file === undefined) {
      throw new Fault('USAGE', 'db backup takes a file', { hint: 'name a file that is not there yet' });
    }
    const config = configOf(args, {}, context);
    await using store = await openRecord(config);
    if (args.action === 'backup' && args.file !== undefined) {
      const file = path.resolve(context.cwd, args.file);
      await store.call('backupTo', file);
      context.out.result(`the record is copied to ${file}`);
      context.out.talk(
        'keep a copy of the identity file too: without it the backups and keys in the record can’t be opened',
      );
      return EXIT.OK;
    }
    const problems = await store.call('checkRecord', undefined);
    if (problems.length === 0) {
      context.out.result(`${config.values.db}: the record is whole`);
      return EXIT.OK;
    }
    for (const problem of problems) context.out.result(problem);
    throw new Fault(
      'RECORD_INVALID',
      `the record has ${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`,
    );
  },
};
