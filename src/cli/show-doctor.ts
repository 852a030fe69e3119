import { table } from '../report/table.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { DoctorArgs } from './commands/doctor.ts';
import { configOf } from './compose.ts';
import { examine } from './examine.ts';
import { EXIT } from './exit-codes.ts';

/** `doctor`: what was found, and the cure for each trouble. */
export async function showDoctor(args: DoctorArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const checks = await examine(configOf(args, {}, context), context);
  if (args.json) context.out.result(JSON.stringify({ checks }));
  else {
    context.out.result(
      table(
        ['', 'CHECK', 'FOUND'],
        checks.map(check => [MARK[check.state], check.name, check.found]),
      ),
    );
    for (const { name, cure } of checks) if (cure !== null) context.out.result(`\n${name}:\n${indent(cure)}`);
  }
  return checks.some(({ state }) => state === 'bad') ? EXIT.USAGE : EXIT.OK;
}

const MARK = { ok: '✔', note: '·', bad: '✘' } as const;

function indent(text: string): string {
  return text
    .split('\n')
    .map(line => `  ${line}`)
    .join('\n');
}
