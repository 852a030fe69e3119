import type { CommandSpec } from '../command.ts';

export interface DoctorArgs {
  readonly json: boolean | undefined;
}

export const doctorCommand: CommandSpec<DoctorArgs> = {
  command: 'doctor',
  describe: 'Check permissions, udev rule, Node, database, clock and cloud, with the cure for each',
  options: yargs => yargs.option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [['$0 doctor', 'is this station fit to work?']],
  run: async (args, context) => (await import('../show-doctor.ts')).showDoctor(args, context),
};
