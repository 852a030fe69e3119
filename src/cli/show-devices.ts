import { table } from '../report/table.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { DevicesArgs } from './commands/devices.ts';
import { configOf, openBuses } from './compose.ts';
import { listDevices } from './list-devices.ts';
import type { ListedDevice } from './list-devices.ts';

/** `devices`: every Photon and P1 on the bus or the racks. */
export async function showDevices(args: DevicesArgs & GlobalArgs, context: CommandContext): Promise<number> {
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
        ['PATH', 'SOCKET', 'MODE', 'DEVICE', 'ID FROM', 'BOOTLOADER', 'MODULES', 'KEY'],
        devices.map(d => [
          d.path,
          names.get(d.path) ?? null,
          d.mode,
          d.deviceId,
          d.identity,
          d.bootloader,
          modulesInWords(d.modules),
          d.key,
        ]),
      ),
    );
    return 0;
  } finally {
    await Promise.all(buses.map(bus => bus.close()));
  }
}

/** The versions of system-part1, system-part2 and the user part: `207 207 -`; `!` where there is none that is whole. */
function modulesInWords(modules: ListedDevice['modules']): string | null {
  if (modules === null) return null;
  return modules
    .map(({ state, version }) => (state === 'whole' ? String(version) : state === 'empty' ? '-' : '!'))
    .join(' ');
}
