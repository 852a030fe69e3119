import { timestamp } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { countOutcomes } from '../fleet/totals.ts';
import { table } from '../report/table.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { StatusArgs } from './commands/status.ts';
import { configOf, openRecord } from './compose.ts';

/** `status`: how a run stands now; the cloud's part is that of this moment, not of when it ran. */
export async function showStatus(args: StatusArgs & GlobalArgs, context: CommandContext): Promise<number> {
  if (args.run !== undefined && !Number.isInteger(args.run)) throw new Fault('USAGE', 'a run is named by its number');
  await using store = await openRecord(configOf(args, {}, context));
  const report = await store.call('runReport', args.run ?? null);
  const settled = report.rows.flatMap(({ outcome }) => (outcome === null ? [] : [{ outcome }]));
  const totals = {
    rows: report.rows.length,
    ...countOutcomes(settled),
    open: report.rows.length - settled.length,
    cloudPending: report.rows.filter(({ cloud }) => cloud === 'pending').length,
  };
  const { run, job, manifest } = report;
  if (args.json) {
    const rows = report.rows.map(({ deviceId, outcome, code, cloud, attempts }) => ({
      deviceId,
      outcome,
      code,
      cloud,
      attempts,
    }));
    context.out.result(JSON.stringify({ run, job, manifest, rows, totals }));
    return 0;
  }
  context.out.result(`run ${run}: job ${job}, ${manifest}`);
  context.out.result(
    `${report.state === 'interrupted' ? 'not finished' : report.state}, begun ${timestamp(report.startedAt)}\n`,
  );
  const rows = report.rows.map(row => [
    row.deviceId,
    row.name,
    row.outcome,
    row.cloud,
    row.attempts,
    row.code,
    row.message,
  ]);
  context.out.result(table(['DEVICE', 'NAME', 'OUTCOME', 'CLOUD', 'ATTEMPTS', 'CODE', 'MESSAGE'], rows));
  const counts = Object.entries(totals).filter(([name, n]) => n > 0 || name === 'rows' || name === 'pass');
  context.out.result(
    `\n${counts.map(([name, n]) => `${n} ${name === 'cloudPending' ? 'cloud pending' : name}`).join(', ')}`,
  );
  return 0;
}
