import type { CommandSpec } from '../command.ts';

export interface AuditArgs {
  readonly action: string;
  readonly run: number | undefined;
  readonly head: string | undefined;
  readonly checkpoint: readonly string[] | undefined;
  readonly format: string;
  readonly device: string | undefined;
  readonly since: number | undefined;
  readonly out: string | undefined;
  readonly check: boolean | undefined;
  readonly json: boolean | undefined;
}

const ACTIONS = ['verify', 'checkpoint', 'report', 'export', 'weak', 'rebuild', 'key'] as const;

export const auditCommand: CommandSpec<AuditArgs> = {
  command: 'audit <action> [run]',
  describe: 'Prove the journal, sign it, and take it out',
  options: yargs =>
    yargs
      .positional('action', {
        type: 'string',
        choices: ACTIONS,
        demandOption: true,
        describe: "verify, checkpoint, report RUN, export, weak, rebuild --check, or key (the station's public key)",
      })
      .positional('run', { type: 'number', describe: 'report: which run' })
      .option('head', {
        type: 'string',
        requiresArg: true,
        describe: 'verify: a hash (64 hex digits) that was noted elsewhere, and must be in the journal',
      })
      .option('checkpoint', {
        type: 'string',
        array: true,
        nargs: 1,
        requiresArg: true,
        describe: 'verify: a checkpoint that was kept elsewhere (may be repeated)',
      })
      .option('format', { type: 'string', choices: ['ndjson', 'csv'], default: 'ndjson', describe: 'export' })
      .option('device', { type: 'string', requiresArg: true, describe: 'export: only events of this device' })
      .option('since', { type: 'number', requiresArg: true, describe: 'export: only events from this number on' })
      .option('out', {
        alias: 'o',
        type: 'string',
        requiresArg: true,
        describe: 'report, export: a file that is not there yet [default: stdout]',
      })
      .option('check', { type: 'boolean', describe: 'rebuild: compare the tables with the journal, change nothing' })
      .option('json', { type: 'boolean', describe: 'One JSON object (verify, checkpoint, weak, rebuild, key)' }),
  examples: [
    ['$0 audit verify', 'has anybody touched the record?'],
    ['$0 audit verify --checkpoint /mnt/safe/newest.note', 'and is it as long as it was then?'],
    ['$0 audit report 3 -o run-3.dsse.json', 'a signed statement of what each device got'],
    ['$0 audit export --format csv -o journal.csv', 'every event, for a spreadsheet'],
    ['$0 audit weak', 'devices whose key should be replaced'],
  ],
  run: async (args, context) => (await import('../tend-audit.ts')).tendAudit(args, context),
};
