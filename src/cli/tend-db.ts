import { resolve } from 'node:path';
import type { Config } from '../config/config.ts';
import { Fault } from '../core/errors.ts';
import type { Store } from '../store/store.ts';
import { proveJournal } from './audit-verify.ts';
import { checkAll } from './check-record.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { DbArgs } from './commands/db.ts';
import { configOf, openRecord, readVault } from './compose.ts';
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
    await store.call('noteExport', { what: 'record' });
    await store.call('backupTo', file);
    context.out.result(`the record is copied to ${file}`);
    const { bound } = await store.call('vaultState', undefined);
    if (bound?.policy !== 'escrow' && bound?.policy !== 'none') {
      context.out.talk(
        'keep a copy of the identity file too: without it the backups and keys in the record can’t be opened',
      );
    }
    return EXIT.OK;
  }
  return await check(config, store, context);
}

const TELL_EVERY = 1000;

async function check(config: Config, store: Store, { out }: CommandContext): Promise<number> {
  const { db } = config.values;
  const vault = await readVault(config, store);
  let items = 0;
  const problems = await checkAll(store, vault, opened => {
    if (Math.floor(opened / TELL_EVERY) > Math.floor(items / TELL_EVERY))
      out.talk(`${opened} keys and backups looked at`);
    items = opened;
  });
  const { bound, rewrap } = await store.call('vaultState', undefined);
  if (vault === null) out.talk(notOpened(rewrap ? 'rewrap' : (bound?.policy ?? 'local')));
  for (const { seq, what } of (await proveJournal(store)).problems) {
    problems.push(seq === null ? what : `event ${seq} of the journal: ${what}`);
  }
  if (problems.length === 0) {
    out.result(
      `${db}: the record is whole${vault === null ? '' : `, and so is all that is sealed in it (${items} items)`}`,
    );
    return EXIT.OK;
  }
  for (const problem of problems) out.result(problem);
  const count = `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`;
  throw new Fault('RECORD_INVALID', `the record has ${count}`);
}

function notOpened(why: 'local' | 'escrow' | 'none' | 'rewrap'): string {
  const checked = 'what is sealed was compared with its hash, and not opened';
  switch (why) {
    case 'local':
      return `the identity file is not there: ${checked}`;
    case 'escrow':
      return `this station seals and can’t open (policy \`escrow\`): ${checked}`;
    case 'none':
      return `private keys are not kept (policy \`none\`): ${checked}`;
    case 'rewrap':
      return `a rewrap of the vault has not come to its end: ${checked}`;
  }
}
