import { replayOnce, type Tried } from '../cloud/replay.ts';
import { replayCallsOnce, type TriedCall } from '../cloud/replay-calls.ts';
import { Told } from '../cloud/told.ts';
import { watchOutbox } from '../cloud/watch.ts';
import { systemClock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { FAULTS } from '../core/fault-codes.ts';
import { callOutboxOf, outboxOf } from '../store/ledger.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { ReplayArgs } from './commands/replay.ts';
import { compareWithCopies } from './audit-checkpoint.ts';
import { callDelivererOf, configOf, delivererOf, openRecord, tokenOf } from './compose.ts';
import { EXIT } from './exit-codes.ts';
import { onInterrupt } from './interrupt.ts';

/** `replay`: sends what is pending, then makes the calls that follow; as a service with --watch. */
export async function replayOutbox(args: ReplayArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = args.only === undefined ? null : parseDeviceId(args.only);
  if (args.only !== undefined && !deviceId) {
    throw new Fault('USAGE', '--only takes a device ID', { hint: 'a device ID has 24 hex digits' });
  }
  const { out } = context;
  const config = configOf(args, { 'cloud.url': args['cloud-url'] }, context);
  const token = tokenOf(config, context);
  await using store = await openRecord(config);
  await compareWithCopies(config, store); // an older copy would send keys that have been replaced since
  const interrupt = onInterrupt(out, 'stopping: sends that are under way finish first');
  const how = {
    stop: interrupt.signal,
    token,
    url: config.values.cloud.url,
    owner: 'replay',
    requestsAtOnce: config.values.cloud.concurrency,
  } as const;
  const deliverer = delivererOf(config, store, {
    ...how,
    onUnauthorized: reason => {
      out.talk(`error: the cloud refused the access token: ${reason} [CLOUD_UNAUTHORIZED]`);
      out.talk(`hint: ${FAULTS.CLOUD_UNAUTHORIZED.hint}`);
    },
  });
  const caller = callDelivererOf(config, store, { ...how, deliverer });
  const outbox = outboxOf(store);
  const callOutbox = callOutboxOf(store);
  const pendingSends = (): Promise<number> => store.call('pendingSends', deviceId);
  const pendingCalls = (): Promise<number> => store.call('pendingCalls', deviceId);
  const totals = { accepted: 0, pending: 0, refused: 0, superseded: 0 };
  let refusedKeys = 0;
  const told = new Told();
  const toldCalls = new Told();
  const round = async (ignoreDue: boolean): Promise<void> => {
    const all = {
      clock: systemClock,
      concurrency: 2 * config.values.cloud.concurrency,
      deviceId,
      ignoreDue,
      stop: interrupt.signal,
    };
    await replayOnce({
      ...all,
      outbox,
      deliverer,
      onTried: tried => {
        const { kind } = tried.delivery;
        if (kind !== 'pending') totals[kind] += 1;
        if (kind === 'refused') refusedKeys += 1;
        else if (tried.state === 'superseded') totals.superseded += 1;
        if (told.isNews(tried) || !args.watch) out.talk(lineOf(tried));
      },
    });
    await replayCallsOnce({
      ...all,
      outbox: callOutbox,
      caller,
      unauthorized: () => deliverer.unauthorized,
      onTried: tried => {
        const { kind } = tried.delivery;
        if (kind !== 'pending') totals[kind === 'done' ? 'accepted' : kind] += 1;
        else if (tried.state === 'superseded') totals.superseded += 1;
        if (toldCalls.isNews({ ...tried, sendId: tried.callId }) || !args.watch) out.talk(lineOfCall(tried));
      },
    });
  };
  try {
    if (args.watch) {
      out.talk('watching the outbox; Ctrl-C ends it');
      await watchOutbox({
        round: async isFirst => {
          await round(isFirst && args.now === true);
          await told.forgetSettled(outbox, await pendingSends());
          await toldCalls.forgetSettled({ stateOf: id => callOutbox.callStateOf(id) }, await pendingCalls());
          return deliverer.unauthorized === null;
        },
        stop: interrupt.signal,
        clock: systemClock,
        onFailure: ({ message, code }) => {
          out.talk(`error: ${message} [${code}]`);
          out.talk('hint: check that the disk has room and that nothing else holds the database; this goes on trying');
        },
        onMended: () => out.talk('the record can be read and written again'),
      });
    } else {
      await round(args.now === true);
    }
    totals.pending = (await pendingSends()) + (await pendingCalls());
  } finally {
    interrupt.dispose();
  }
  if (args.json) out.result(JSON.stringify(totals));
  else {
    const { accepted, pending, refused, superseded } = totals;
    out.result(
      `${accepted} accepted, ${pending} pending, ${refused} refused${superseded > 0 ? `, ${superseded} superseded` : ''}`,
    );
    if (refusedKeys > 0) {
      out.talk(
        'hint: a refused key is parked, and its device can’t connect: claim the device, then `photon-fleet outbox retry ID`',
      );
    }
    if (refused > refusedKeys) {
      out.talk('hint: a refused call is parked: mend what it says, then `photon-fleet outbox retry ID`');
    }
    if (pending > 0 && deliverer.unauthorized === null)
      out.talk('hint: `photon-fleet outbox` says why each send waits and until when; --now does not wait');
  }
  if (interrupt.signal.aborted) return EXIT.INTERRUPTED;
  if (deliverer.unauthorized !== null) return EXIT.UNAUTHORIZED;
  if (totals.refused > 0) return EXIT.SOME_FAILED;
  return totals.pending > 0 ? EXIT.PENDING : EXIT.OK;
}

function lineOf({ deviceId, delivery, state }: Tried): string {
  switch (delivery.kind) {
    case 'accepted':
      return `${deviceId}  accepted`;
    case 'refused':
      return `${deviceId}  refused with ${delivery.status}: ${delivery.reason}`;
    case 'pending':
      if (state === 'pending') return `${deviceId}  waits: ${delivery.reason}`;
      if (state === 'superseded') return `${deviceId}  superseded by another key`;
      return `${deviceId}  ${state ?? 'settled'}, by another process`;
  }
}

function lineOfCall({ deviceId, kind, delivery, state }: TriedCall): string {
  switch (delivery.kind) {
    case 'done':
      return `${deviceId}  ${kind} done`;
    case 'refused':
      return `${deviceId}  ${kind} refused with ${delivery.status}: ${delivery.reason}`;
    case 'pending':
      if (state === 'pending') return `${deviceId}  ${kind} waits: ${delivery.reason}`;
      return `${deviceId}  ${kind} ${state ?? 'settled'}, by another process`;
  }
}
