import { resolve } from 'node:path';
import { Fault } from '../core/errors.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { DbArgs } from './commands/db.ts';
import { configOf, openRecord } from './compose.ts';
import { EXIT } from './exit-codes.ts';

/** `db`: a whole copy of the record, or a look at whether it is whole. */
export async function tendDb(args: DbArgs & GlobalArgs, context: CommandContext): Promise<number> {
  if (args.action === 'backup' && args.file === undefined) {
    throw new Fault('USAGE', 'db backup takes a file', { hint: 'name a file that is not there yet' });
  }
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  if (args.action === 'backup' && args.file !== undefined) {
    const file = resolve(context.cwd, args.file);
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
}
