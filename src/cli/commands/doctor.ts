import type { CommandSpec } from '../command.ts';

interface DoctorArgs {
  readonly json: boolean | undefined;
}

export const doctorCommand: CommandSpec<DoctorArgs> = {
  command: 'doctor',
  describe: 'Check permissions, udev rule, Node, database, clock and cloud, with the cure for each',
  options: yargs => yargs.option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [['$0 doctor', 'is this station fit to work?']],
  run: async (args, context) => {
    const [{ configOf }, { examine }, { EXIT }, { table }] = await Promise.all([
      import('../compose.ts'),
      import('../examine.ts'),
      import('../exit-codes.ts'),
      import('../../report/table.ts'),
    ]);
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
  },
};

const MARK = { ok: '✔', note: '·', bad: '✘' } as const;

function indent(text: string): string {
  return text
    .split('\n')
    .map(line => `  ${line}`)
    .join('\n');
}
