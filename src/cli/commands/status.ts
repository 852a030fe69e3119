import type { CommandSpec } from '../command.ts';

interface StatusArgs {
  readonly run: number | undefined;
  readonly json: boolean | undefined;
}

export const statusCommand: CommandSpec<StatusArgs> = {
  command: 'status [run]',
  describe: 'A run’s rows and totals; the newest run if none is named',
  options: yargs =>
    yargs
      .positional('run', { type: 'number', describe: 'The run’s number' })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [
    ['$0 status', 'how the newest run stands'],
    ['$0 status 7 --json', 'run 7, for a program'],
  ],
  run: async (args, context) => {
    const [{ configOf, openRecord }, { table }, { countOutcomes }, { timestamp }, { Fault }] = await Promise.all([
      import('../compose.ts'),
      import('../../report/table.ts'),
      import('../../fleet/totals.ts'),
      import('../../core/clock.ts'),
      import('../../core/errors.ts'),
    ]);
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
    context.out.result(`${report.state}, begun ${timestamp(report.startedAt)}\n`);
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
  },
};
