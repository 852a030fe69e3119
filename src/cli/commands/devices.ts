import { rackOptions } from '../command.ts';
import type { CommandSpec, RackArgs } from '../command.ts';

interface DevicesArgs extends RackArgs {
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
  run: async (args, context) => {
    const [{ configOf, openBuses }, { listDevices }, { table }] = await Promise.all([
      import('../compose.ts'),
      import('../list-devices.ts'),
      import('../../report/table.ts'),
    ]);
    const config = configOf(args, { racks: args.rack, insecureRack: args['insecure-rack'] }, context);
    const buses = await openBuses(config);
    try {
      const devices = await listDevices(buses, config.values);
      if (args.json) {
        context.out.result(JSON.stringify({ devices }));
        return 0;
      }
      if (devices.length === 0) {
        context.out.result('no Photon or P1 is on the bus');
        context.out.talk(
          'hint: hold SETUP and tap RESET until the LED blinks yellow; `photon-fleet doctor` checks the station',
        );
        return 0;
      }
      const names = new Map(Object.entries(config.values.sockets).map(([name, path]) => [path as string, name]));
      context.out.result(
        table(
          ['PATH', 'SOCKET', 'MODE', 'DEVICE', 'ID FROM', 'BOOTLOADER', 'KEY'],
          devices.map(d => [d.path, names.get(d.path) ?? null, d.mode, d.deviceId, d.identity, d.bootloader, d.key]),
        ),
      );
      return 0;
    } finally {
      await Promise.all(buses.map(bus => bus.close()));
    }
  },
};
