import { systemClock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { when } from '../report/json.ts';
import { table } from '../report/table.ts';
import { compareWithCopies } from './audit-checkpoint.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { OutboxArgs } from './commands/outbox.ts';
import { configOf, openRecord } from './compose.ts';

/** `outbox`: lists sends, makes a parked one pending again, or drops one for good. */
export async function tendOutbox(args: OutboxArgs & GlobalArgs, context: CommandContext): Promise<number> {
  if (args.action === undefined || args.action === 'list') return list(args, context);
  const deviceId = parseDeviceId(args.device_id ?? '');
  if (!deviceId) {
    throw new Fault('USAGE', `outbox ${args.action} takes a device ID`, { hint: 'a device ID has 24 hex digits' });
  }
  const why = args.why?.trim() ?? '';
  if (args.action === 'drop' && why === '') {
    throw new Fault('USAGE', 'a send is dropped with a reason', { hint: 'add --why "…"; it goes on record' });
  }
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  await compareWithCopies(config, store);
  const at = systemClock.now();
  if (args.action === 'retry') {
    await store.call('retrySend', { deviceId, at });
    context.out.result(`the send of ${deviceId} is pending again: \`photon-fleet replay\` sends it`);
  } else {
    await store.call('dropSend', { deviceId, why, at });
    context.out.result(`the send of ${deviceId} is dropped: ${why}`);
  }
  return 0;
}

async function list(args: OutboxArgs & GlobalArgs, context: CommandContext): Promise<number> {
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
