import { systemClock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { ReleaseArgs } from './commands/release.ts';
import { configOf, openRecord } from './compose.ts';

/** `release`: the failures of a device so far count no more. */
export async function release(args: ReleaseArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = parseDeviceId(args.device_id);
  if (!deviceId) throw new Fault('USAGE', 'that is no device ID', { hint: 'a device ID has 24 hex digits' });
  await using store = await openRecord(configOf(args, {}, context));
  const why = args.why?.trim() ?? '';
  const { failures } = await store.call('releaseDevice', {
    deviceId,
    why: why === '' ? null : why,
    at: systemClock.now(),
  });
  if (args.json) {
    context.out.result(JSON.stringify({ deviceId, released: failures > 0, failures }));
  } else if (failures === 0) {
    context.out.result(`device ${deviceId} has no failed attempts that count: there is nothing to release`);
  } else {
    context.out.result(`device ${deviceId} is released: ${failures} failed attempt(s) count no more`);
    context.out.talk('the next `photon-fleet run` works on it again');
  }
  return 0;
}
