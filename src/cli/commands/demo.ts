import type { CommandSpec } from '../command.ts';

export const demoCommand: CommandSpec<unknown> = {
  command: 'demo',
  describe: 'Provision a virtual rack of 24 Photons on 3 hubs against a virtual cloud',
  options: yargs => yargs,
  examples: [['$0 demo', 'everything real but the Photons: SQLite, HTTP, every byte of DFU']],
  run: async (args, context) => (await import('../run-demo.ts')).runDemo(args, context),
};
