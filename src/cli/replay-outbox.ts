import { replayOnce } from '../cloud/replay.ts';
import { systemClock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { FAULTS } from '../core/fault-codes.ts';
import { outboxOf } from '../store/ledger.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { ReplayArgs } from './commands/replay.ts';
import { configOf, delivererOf, openRecord, tokenOf } from './compose.ts';
import { EXIT } from './exit-codes.ts';
import { onInterrupt } from './interrupt.ts';

const WATCH_EVERY_MS = 2000;

/** `replay`: sends what is pending; as a service with --watch. */
export async function replayOutbox(args: ReplayArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = args.only === undefined ? null : parseDeviceId(args.only);
  if (args.only !== undefined && !deviceId) {
    throw new Fault('USAGE', '--only takes a device ID', { hint: 'a device ID has 24 hex digits' });
  }
  const { out } = context;
  const config = configOf(args, { 'cloud.url': args['cloud-url'] }, context);
  const token = tokenOf(config, context);
  await using store = await openRecord(config);
  const deliverer = delivererOf(config, store, {
    token,
    url: config.values.cloud.url,
    owner: 'replay',
    onUnauthorized: reason => {
      out.talk(`error: the cloud refused the access token: ${reason} [CLOUD_UNAUTHORIZED]`);
      out.talk(`hint: ${FAULTS.CLOUD_UNAUTHORIZED.hint}`);
    },
  });
  const interrupt = onInterrupt(out, 'stopping: sends that are under way finish first');
  const totals = { accepted: 0, pending: 0, refused: 0, superseded: 0 };
  try {
    for (;;) {
      const round = await replayOnce({
        outbox: outboxOf(store),
        deliverer,
        clock: systemClock,
        concurrency: config.values.cloud.concurrency,
        deviceId,
        ignoreDue: args.now === true,
        stop: interrupt.signal,
        onSent: (id, delivery) => {
          if (delivery.kind === 'accepted') out.talk(`${id}  accepted`);
          else if (delivery.kind === 'refused') out.talk(`${id}  refused with ${delivery.status}: ${delivery.reason}`);
          else out.talk(`${id}  waits: ${delivery.reason}`);
        },
      });
      totals.accepted += round.accepted;
      totals.refused += round.refused;
      totals.superseded += round.superseded;
      if (!args.watch || interrupt.signal.aborted || deliverer.unauthorized !== null) break;
      await systemClock.sleep(WATCH_EVERY_MS, interrupt.signal);
    }
    totals.pending = await store.call('pendingSends', deviceId);
  } finally {
    interrupt.dispose();
  }
  if (args.json) out.result(JSON.stringify(totals));
  else {
    const { accepted, pending, refused, superseded } = totals;
    out.result(
      `${accepted} accepted, ${pending} pending, ${refused} refused${superseded > 0 ? `, ${superseded} superseded` : ''}`,
    );
    if (refused > 0) {
      out.talk(
        'hint: a refused key is parked, and its device can’t connect: claim the device, then `photon-fleet outbox retry ID`',
      );
    }
    if (pending > 0 && deliverer.unauthorized === null)
      out.talk('hint: `photon-fleet outbox` says why each send waits and until when; --now does not wait');
  }
  if (interrupt.signal.aborted) return EXIT.INTERRUPTED;
  if (deliverer.unauthorized !== null) return EXIT.UNAUTHORIZED;
  if (totals.refused > 0) return EXIT.SOME_FAILED;
  return totals.pending > 0 ? EXIT.PENDING : EXIT.OK;
}
