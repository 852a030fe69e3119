import type { CommandSpec } from '../command.ts';

interface HistoryArgs {
  readonly device_id: string;
  readonly json: boolean | undefined;
}

export const historyCommand: CommandSpec<HistoryArgs> = {
  command: 'history <device_id>',
  describe: 'Every key, backup, attempt and send of one device',
  options: yargs =>
    yargs
      .positional('device_id', { type: 'string', demandOption: true, describe: '24 hex digits' })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [['$0 history 0a10aced202194944a0429d8', 'which keys this device has had']],
  run: async (args, context) => {
    const [{ configOf, openRecord }, { showHistory }, { Fault }, { parseDeviceId }] = await Promise.all([
      import('../compose.ts'),
      import('../show-history.ts'),
      import('../../core/errors.ts'),
      import('../../core/device-id.ts'),
    ]);
    const deviceId = parseDeviceId(args.device_id);
    if (!deviceId) throw new Fault('USAGE', 'that is no device ID', { hint: 'a device ID has 24 hex digits' });
    await using store = await openRecord(configOf(args, {}, context));
    showHistory(await store.call('deviceHistory', deviceId), args.json === true, context.out);
    return 0;
  },
};
