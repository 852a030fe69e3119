import { rackOptions } from '../command.ts';
import type { CommandSpec, RackArgs } from '../command.ts';

export interface DevicesArgs extends RackArgs {
  readonly json: boolean | undefined;
}

export const devicesCommand: CommandSpec<DevicesArgs> = {
  command: 'devices',
  describe: 'What is on the bus: path, mode, ID, bootloader, key state',
  options: yargs => rackOptions(yargs.option('json', { type: 'boolean', describe: 'One JSON object' })),
  examples: [
    ['$0 devices', 'Photons on this host'],
    ['$0 devices --rack 127.0.0.1:3240', 'those on a rack'],
  ],
  run: async (args, context) => (await import('../show-devices.ts')).showDevices(args, context),
};
