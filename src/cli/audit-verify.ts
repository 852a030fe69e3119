import { originOf, openCheckpoint } from '../audit/signed-note.ts';
import { Fault, toFault } from '../core/errors.ts';
import type { FaultCode } from '../core/errors.ts';
import type { ChainResult } from '../store/journal/chain.ts';
import { proveChain } from '../store/prove-chain.ts';
import type { Store } from '../store/store.ts';
import { compareWith, compareWithCopies, readCheckpoint } from './audit-checkpoint.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { AuditArgs } from './commands/audit.ts';
import { configOf, openRecord } from './compose.ts';
import { EXIT } from './exit-codes.ts';

export interface Problem {
  /** The event that is wrong; null where it is not one of the journal's. */
  readonly seq: number | null;
  readonly what: string;
}

/** The chain of the journal, and whether the tables follow from it. */
export async function proveJournal(
  store: Pick<Store, 'call' | 'path'>,
): Promise<{ chain: ChainResult; problems: Problem[] }> {
  const { seq } = await store.call('journalHead', undefined);
  const [chain, tables] = await Promise.all([
    proveChain(store, seq),
    store.call('compareWithJournal', undefined).catch((error: unknown) => ({ problems: [ofTheRecord(error).message] })),
  ]);
  const problems = tables.problems.map((what): Problem => ({ seq: null, what }));
  return { chain, problems: chain.problem ? [chain.problem, ...problems] : problems };
}

/**
 * `audit verify`: the chain, every checkpoint on record and those that were named, and the tables. The first event that
 * is wrong is named. @throws Fault RECORD_JOURNAL
 */
export async function verify(args: AuditArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const head = args.head?.trim().toLowerCase();
  if (head !== undefined && !/^[0-9a-f]{64}$/.test(head)) {
    throw new Fault('USAGE', '--head takes the 64 hex digits of a hash', { hint: '`audit verify` prints the head' });
  }
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  const { stationId, signingKey } = await store.call('journalHead', undefined);
  const { chain, problems: found } = await proveJournal(store);
  const problems: Problem[] = found.filter(({ seq }) => seq !== null);
  if (chain.events === 0) problems.push({ seq: 1, what: 'the journal is empty' });
  const { count, wrong } = await checkpointsOnRecord(store, stationId, signingKey);
  problems.push(...wrong);
  for (const file of args.checkpoint ?? []) {
    problems.push(
      ...(await problemOf(async () => {
        if (signingKey === null) throw new Fault('RECORD_BEHIND', 'this database has signed nothing yet');
        await compareWith(store, readCheckpoint(file, stationId, signingKey));
      })),
    );
  }
  problems.push(...(await problemOf(() => compareWithCopies(config, store))));
  if (head !== undefined && (await store.call('journalSeqOf', head)) === null) {
    problems.push({ seq: null, what: `no event has the hash ${head}: the journal was cut or exchanged` });
  }
  problems.push(...found.filter(({ seq }) => seq === null));
  const summary = { events: chain.events, head: chain.head, checkpoints: count, problems };
  if (args.json) context.out.result(JSON.stringify(summary));
  if (problems.length === 0) {
    if (!args.json) {
      context.out.result(
        `${chain.events} events, ${count} checkpoints: the journal is whole, and the tables follow from it`,
      );
      context.out.result(`head: ${chain.head}`);
    }
    return EXIT.OK;
  }
  if (!args.json) {
    for (const { seq: event, what } of problems) {
      context.out.result(event === null ? what : `event ${event}: ${what}`);
    }
  }
  const [first] = problems;
  const where = first === undefined || first.seq === null ? '' : `, first at event ${first.seq}`;
  throw new Fault('RECORD_JOURNAL', `the record does not verify: ${problems.length} problem(s)${where}`);
}

const OF_THE_RECORD: readonly FaultCode[] = [
  ...(['RECORD_INVALID', 'RECORD_JOURNAL', 'RECORD_BEHIND', 'CHECKPOINT_INVALID'] as const),
];

/** What is wrong with the record; trouble of the station (a full disk, a folder that is not there) proves nothing of it. */
function ofTheRecord(error: unknown): Fault {
  const fault = toFault(error);
  if (!OF_THE_RECORD.includes(fault.code)) throw fault;
  return fault;
}

async function problemOf(work: () => Promise<void>): Promise<Problem[]> {
  try {
    await work();
    return [];
  } catch (error) {
    return [{ seq: null, what: ofTheRecord(error).message }];
  }
}

const AT_ONCE = 500;

async function checkpointsOnRecord(
  store: Store,
  stationId: string,
  signingKey: string | null,
): Promise<{ count: number; wrong: Problem[] }> {
  const wrong: Problem[] = [];
  let count = 0;
  for (let afterId = 0; ;) {
    const page = await store.call('checkpointsAfter', { afterId, limit: AT_ONCE });
    const last = page.at(-1);
    if (!last) return { count, wrong };
    for (const { id, seq, note } of page) {
      count += 1;
      const problems = await problemOf(async () => {
        if (signingKey === null) throw new Fault('CHECKPOINT_INVALID', 'it is signed, and the station has no key');
        const signed = openCheckpoint(note, originOf(stationId), Buffer.from(signingKey, 'base64'));
        if (signed.seq !== seq) throw new Fault('CHECKPOINT_INVALID', 'it is of another event than its row says');
        await compareWith(store, signed);
      });
      wrong.push(...problems.map(({ what }) => ({ seq: null, what: `checkpoint ${id}: ${what}` })));
    }
    afterId = last.id;
  }
}

/** `audit rebuild --check`: the tables made anew from the journal, and compared. @throws Fault RECORD_JOURNAL */
export async function rebuild(args: AuditArgs & GlobalArgs, context: CommandContext): Promise<number> {
  if (args.check !== true) {
    throw new Fault('USAGE', 'audit rebuild only compares', {
      hint: 'say `audit rebuild --check`: nothing is changed',
    });
  }
  await using store = await openRecord(configOf(args, {}, context));
  const { events, problems } = await store.call('compareWithJournal', undefined);
  if (args.json) context.out.result(JSON.stringify({ events, problems }));
  else for (const problem of problems) context.out.result(problem);
  if (problems.length > 0) {
    throw new Fault('RECORD_JOURNAL', `the tables do not follow from the journal: ${problems.length} problem(s)`);
  }
  if (!args.json) context.out.result(`${events} events make the tables that are there, row by row`);
  return EXIT.OK;
}
