import type { CommandContext, CommandSpec, GlobalArgs } from '../command.ts';

interface OutboxArgs {
  readonly action: string | undefined;
  readonly device_id: string | undefined;
  readonly state: string | undefined;
  readonly why: string | undefined;
  readonly json: boolean | undefined;
}

const STATES = ['held', 'pending', 'accepted', 'refused', 'superseded', 'dropped'] as const;

export const outboxCommand: CommandSpec<OutboxArgs> = {
  command: 'outbox [action] [device_id]',
  describe: 'Sends and why they wait; `outbox retry ID`, `outbox drop ID --why "…"`',
  options: yargs =>
    yargs
      .positional('action', {
        type: 'string',
        choices: ['list', 'retry', 'drop'],
        describe: 'list [default], retry or drop',
      })
      .positional('device_id', { type: 'string', describe: 'Whose send to retry or drop' })
      .option('state', { type: 'string', requiresArg: true, choices: STATES, describe: 'Only sends in this state' })
      .option('why', { type: 'string', requiresArg: true, describe: 'Why a send is dropped; goes on record' })
      .option('json', { type: 'boolean', describe: 'One JSON object' }),
  examples: [
    ['$0 outbox --state pending', 'what `replay` would send'],
    ['$0 outbox retry 0a10aced202194944a0429d8', 'after the device has been claimed'],
    ['$0 outbox drop 0a10aced202194944a0429d8 --why "scrapped"', 'never send it'],
  ],
  run: async (args, context) => {
    if (args.action === undefined || args.action === 'list') return list(args, context);
    const [{ configOf, openRecord }, { Fault }, { parseDeviceId }] = await Promise.all([
      import('../compose.ts'),
      import('../../core/errors.ts'),
      import('../../core/device-id.ts'),
    ]);
    const deviceId = parseDeviceId(args.device_id ?? '');
    if (!deviceId) {
      throw new Fault('USAGE', `outbox ${args.action} takes a device ID`, { hint: 'a device ID has 24 hex digits' });
    }
    const why = args.why?.trim() ?? '';
    if (args.action === 'drop' && why === '') {
      throw new Fault('USAGE', 'a send is dropped with a reason', { hint: 'add --why "…"; it goes on record' });
    }
    await using store = await openRecord(configOf(args, {}, context));
    const at = Date.now();
    if (args.action === 'retry') {
      await store.call('retrySend', { deviceId, at });
      context.out.result(`the send of ${deviceId} is pending again: \`photon-fleet replay\` sends it`);
    } else {
      await store.call('dropSend', { deviceId, why, at });
      context.out.result(`the send of ${deviceId} is dropped: ${why}`);
    }
    return 0;
  },
};

async function list(args: OutboxArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const [{ configOf, openRecord }, { table }, { when }] = await Promise.all([
    import('../compose.ts'),
    import('../../report/table.ts'),
    import('../../report/json.ts'),
  ]);
  await using store = await openRecord(configOf(args, {}, context));
  const found = await store.call('outboxReport', args.state ?? null);
  const sends = found.map(({ nextAt, ...send }) => ({ ...send, nextAt: when(nextAt) }));
  if (args.json) {
    const ordered = sends.map(
      ({ deviceId, generation, fingerprint, state, attempts, nextAt, lastStatus, lastError }) => ({
        deviceId,
        generation,
        fingerprint,
        state,
        attempts,
        nextAt,
        lastStatus,
        lastError,
      }),
    );
    context.out.result(JSON.stringify({ sends: ordered }));
    return 0;
  }
  if (sends.length === 0) {
    context.out.result(args.state === undefined ? 'the outbox is empty' : `no send is ${args.state}`);
    return 0;
  }
  context.out.result(
    table(
      ['DEVICE', 'GEN', 'FINGERPRINT', 'STATE', 'TRIES', 'NEXT', 'STATUS', 'LAST ERROR'],
      sends.map(send => [
        send.deviceId,
        send.generation,
        send.fingerprint.slice(0, 16),
        send.state,
        send.attempts,
        send.nextAt,
        send.lastStatus,
        send.lastError,
      ]),
    ),
  );
  return 0;
}
