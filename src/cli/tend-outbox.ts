import { systemClock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault, toFault } from '../core/errors.ts';
import { when } from '../report/json.ts';
import { table } from '../report/table.ts';
import { compareWithCopies } from './audit-checkpoint.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { OutboxArgs } from './commands/outbox.ts';
import { configOf, openRecord } from './compose.ts';

/** `outbox`: lists sends and calls, makes parked ones of a device pending again, or drops them for good. */
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
    const calls = await store.call('retryCalls', { deviceId, at });
    if (await unlessOnlyCalls(calls, store.call('retrySend', { deviceId, at }))) {
      context.out.result(`the send of ${deviceId} is pending again: \`photon-fleet replay\` sends it`);
    }
    if (calls.length > 0) {
      context.out.result(`${calls.join(' and ')} of ${deviceId} pending again: \`photon-fleet replay\` brings it`);
    }
  } else {
    const calls = await store.call('dropCalls', { deviceId, why, at });
    if (await unlessOnlyCalls(calls, store.call('dropSend', { deviceId, why, at }))) {
      context.out.result(`the send of ${deviceId} is dropped: ${why}`);
    }
    if (calls.length > 0) context.out.result(`${calls.join(' and ')} of ${deviceId} dropped: ${why}`);
  }
  return 0;
}

/** A device of which calls alone were waiting has no send to act on. @returns whether the send was acted on */
async function unlessOnlyCalls(calls: readonly string[], acting: Promise<void>): Promise<boolean> {
  try {
    await acting;
    return true;
  } catch (thrown) {
    if (calls.length > 0 && toFault(thrown).code === 'SEND_NOT_FOUND') return false;
    throw thrown;
  }
}

async function list(args: OutboxArgs & GlobalArgs, context: CommandContext): Promise<number> {
  await using store = await openRecord(configOf(args, {}, context));
  const found = await store.call('outboxReport', args.state ?? null);
  const sends = found.map(({ nextAt, ...send }) => ({ ...send, nextAt: when(nextAt) }));
  const calls = (await store.call('callsReport', args.state ?? null)).map(
    ({ deviceId, kind, state, attempts, nextAt, lastStatus, lastError }) => ({
      ...{ deviceId, kind, state, attempts, nextAt: when(nextAt), lastStatus, lastError },
    }),
  );
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
    context.out.result(JSON.stringify({ sends: ordered, calls }));
    return 0;
  }
  if (sends.length + calls.length === 0) {
    context.out.result(args.state === undefined ? 'the outbox is empty' : `nothing is ${args.state}`);
    return 0;
  }
  context.out.result(
    table(
      ['DEVICE', 'WHAT', 'GEN', 'FINGERPRINT', 'STATE', 'TRIES', 'NEXT', 'STATUS', 'LAST ERROR'],
      [
        ...sends.map(send => ({ ...send, what: 'key', key: [send.generation, send.fingerprint.slice(0, 16)] })),
        ...calls.map(call => ({ ...call, what: call.kind, key: [null, null] })),
      ].map(one => [
        one.deviceId,
        one.what,
        ...one.key,
        one.state,
        one.attempts,
        one.nextAt,
        one.lastStatus,
        one.lastError,
      ]),
    ),
  );
  return 0;
}
