import { signStatement } from '../audit/dsse.ts';
import { timestamp } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import type { RunStatement } from '../store/ops/run-statement.ts';
import { signingKeyOf } from './audit-checkpoint.ts';
import { writeResult } from './audit-export.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { AuditArgs } from './commands/audit.ts';
import { configOf, openRecord } from './compose.ts';
import { EXIT } from './exit-codes.ts';

/** `audit report RUN`: an in-toto Statement (in-toto.io/Statement/v1) of what each device got, signed by the station. */
export async function reportRun(args: AuditArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const { run } = args;
  if (run === undefined || !Number.isSafeInteger(run) || run < 1) {
    throw new Fault('USAGE', 'audit report takes the number of a run', {
      hint: '`photon-fleet status` shows the newest',
    });
  }
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  const found = await store.call('runStatement', run);
  const key = await signingKeyOf(config, store);
  const { stationId, seq, hash } = await store.call('journalHead', undefined);
  const envelope = signStatement(statementOf(found, { stationId, seq, hash }), key);
  await store.call('noteExport', { what: 'report', run });
  await writeResult(args.out, context, write => write(`${envelope}\n`));
  if (args.out !== undefined) context.out.talk(`run ${run}: ${found.devices.length} devices, signed`);
  return EXIT.OK;
}

/** The subjects are the devices that carry a key, with the SHA-256 of its public half (SPKI DER). */
function statementOf(
  { devices, startedAt, endedAt, ...run }: RunStatement,
  journal: { stationId: string; seq: number; hash: string },
): object {
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: devices.flatMap(({ deviceId, fingerprint }) =>
      fingerprint === null ? [] : [{ name: deviceId, digest: { sha256: fingerprint } }],
    ),
    predicateType: 'urn:photon-fleet:run:v1',
    predicate: {
      ...run,
      startedAt: timestamp(startedAt),
      endedAt: endedAt === null ? null : timestamp(endedAt),
      journal,
      devices,
    },
  };
}
