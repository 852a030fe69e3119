import type { Argv } from 'yargs';
import type { CommandSpec, GlobalArgs } from '../command.ts';

export interface SimArgs {
  readonly what: string;
  readonly listen: string | undefined;
  readonly count: number;
  readonly hubs: number | undefined;
  readonly state: string | undefined;
  readonly 'write-ms': number;
  readonly boots: boolean | undefined;
  readonly 'system-version': number;
  readonly fault: readonly string[] | undefined;
  readonly ids: string | undefined;
  readonly manifest: string | undefined;
  readonly keys: 'made' | 'blank';
  readonly token: boolean | undefined;
  readonly 'handshake-listen': string | undefined;
  readonly 'server-key-out': string | undefined;
  readonly json: boolean | undefined;
}

export const simCommand: CommandSpec<SimArgs> = {
  command: 'sim <what>',
  describe: 'sim rack: a virtual rack (a USB/IP server); sim cloud: a virtual cloud (HTTP)',
  options: yargs =>
    yargs
      .positional('what', { type: 'string', choices: ['rack', 'cloud'], demandOption: true, describe: 'rack or cloud' })
      .option('listen', {
        type: 'string',
        requiresArg: true,
        describe:
          'HOST:PORT, port 0 for any free one [default: 127.0.0.1:3240 for the rack, 127.0.0.1:8080 for the cloud]',
      })
      .option('count', { type: 'number', requiresArg: true, default: 8, describe: 'rack: how many devices' })
      .option('hubs', {
        type: 'number',
        requiresArg: true,
        describe: 'rack: on how many hubs [default: one for 8 devices]',
      })
      .option('state', {
        type: 'string',
        requiresArg: true,
        describe: "rack: a folder in which the devices' flash survives this process",
      })
      .option('write-ms', {
        type: 'number',
        requiresArg: true,
        default: 300,
        describe: 'rack: how long a flash write takes',
      })
      .option('boots', {
        type: 'boolean',
        describe: 'rack: devices that leave DFU mode start their firmware, and are on the bus in normal mode',
      })
      .option('system-version', {
        type: 'number',
        requiresArg: true,
        default: 207,
        describe: 'rack: module version of the firmware on new devices; it tells how they are brought into DFU mode',
      })
      .option('ids', { type: 'string', requiresArg: true, describe: 'rack: take the device IDs from this manifest' })
      .option('manifest', {
        type: 'string',
        requiresArg: true,
        describe: 'rack: write a manifest of its devices to this new file',
      })
      .option('keys', {
        type: 'string',
        choices: ['made', 'blank'] as const,
        default: 'made',
        describe: 'rack: keys on the devices at first',
      })
      .option('fault', {
        type: 'string',
        array: true,
        requiresArg: true,
        nargs: 1,
        describe: 'rack: DEVICE:KIND[:ARG]; cloud: KIND[:ARG]; may be repeated; a wrong one names the kinds',
      })
      .option('token', { type: 'boolean', describe: 'cloud: take the token of PARTICLE_ACCESS_TOKEN alone' })
      .option('handshake-listen', {
        type: 'string',
        requiresArg: true,
        describe: "cloud: HOST:PORT for the devices' handshake over TCP, port 0 for any free one",
      })
      .option('server-key-out', {
        type: 'string',
        requiresArg: true,
        describe: 'cloud: write the public server key of the handshake (PEM) to this new file',
      })
      .option('json', { type: 'boolean', describe: 'One JSON object a line' }) as Argv<SimArgs & GlobalArgs>,
  examples: [
    ['$0 sim rack --count 16 --hubs 4 --manifest rack.csv', 'a rack at 127.0.0.1:3240'],
    ['$0 sim rack --fault "#3:write-flip" --fault "*:old-bootloader"', 'with faults'],
    ['$0 sim rack --boots --system-version 1403', 'devices that boot, with Device OS 1.4.1'],
    ['$0 sim cloud --fault status:503:5', 'a cloud that is down for five requests'],
  ],
  run: async (args, context) => {
    const { serveSimRack, serveSimCloud } = await import('../serve-sim.ts');
    return args.what === 'rack' ? serveSimRack(args, context) : serveSimCloud(args, context);
  },
};
