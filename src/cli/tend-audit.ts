import { Fault } from '../core/errors.ts';
import { showKey, makeCheckpoint } from './audit-checkpoint.ts';
import { exportJournal } from './audit-export.ts';
import { reportRun } from './audit-report.ts';
import { rebuild, verify } from './audit-verify.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { AuditArgs } from './commands/audit.ts';
import { showWeak } from './show-weak.ts';

/** `audit`: what an auditor asks of the journal. @returns the exit code */
export function tendAudit(args: AuditArgs & GlobalArgs, context: CommandContext): Promise<number> {
  if (args.run !== undefined && args.action !== 'report') {
    throw new Fault('USAGE', `audit ${args.action} takes no number`, { hint: 'only `audit report RUN` does' });
  }
  switch (args.action) {
    case 'verify':
      return verify(args, context);
    case 'checkpoint':
      return makeCheckpoint(args, context);
    case 'report':
      return reportRun(args, context);
    case 'export':
      return exportJournal(args, context);
    case 'weak':
      return showWeak(args, context);
    case 'key':
      return showKey(args, context);
    default:
      return rebuild(args, context);
  }
}
