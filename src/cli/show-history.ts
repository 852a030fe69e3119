import { parseDeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { when } from '../report/json.ts';
import { table } from '../report/table.ts';
import { bold } from '../report/terminal.ts';
import { timeline } from '../report/timeline.ts';
import type { Output } from '../report/terminal.ts';
import type { DeviceHistory } from '../store/ops/history.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { HistoryArgs } from './commands/history.ts';
import { configOf, openRecord } from './compose.ts';
import { timelineOf } from './device-timeline.ts';

/** `history`: every key, backup, attempt and send of one device, and its life as a timeline. */
export async function showHistory(args: HistoryArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = parseDeviceId(args.device_id);
  if (!deviceId) throw new Fault('USAGE', 'that is no device ID', { hint: 'a device ID has 24 hex digits' });
  await using store = await openRecord(configOf(args, {}, context));
  printHistory(await store.call('deviceHistory', deviceId), args.json === true, context.out);
  return 0;
}

/** A device's history as one JSON object, or as tables. Times are RFC 3339 in UTC. */
function printHistory(history: DeviceHistory, json: boolean, out: Output): void {
  const keys = history.keys.map(({ createdAt, verifiedAt, cloud, changes, ...key }) => ({
    ...key,
    createdAt: when(createdAt),
    verifiedAt: when(verifiedAt),
    cloud: { ...cloud, acceptedAt: when(cloud.acceptedAt) },
    changes: changes.map(({ at, ...change }) => ({ ...change, at: when(at) })),
  }));
  const backups = history.backups.map(({ takenAt, ...backup }) => ({ ...backup, takenAt: when(takenAt) }));
  const attempts = history.attempts.map(({ startedAt, endedAt, ...attempt }) => ({
    ...attempt,
    startedAt: when(startedAt),
    endedAt: when(endedAt),
  }));
  const { failures, events, olderEvents } = history;
  const calls = history.calls.map(({ nextAt, ...call }) => ({ ...call, nextAt: when(nextAt) }));
  const marks = history.marks.map(({ markedAt, ...mark }) => ({ ...mark, markedAt: when(markedAt) }));
  const releases = history.releases.map(({ releasedAt, why }) => ({ releasedAt: when(releasedAt), why }));
  const modules = history.modules.map(({ seenAt, ...module }) => ({ ...module, seenAt: when(seenAt) }));
  const flashings = history.flashings.map(({ begunAt, endedAt, ...flashing }) => ({
    ...flashing,
    begunAt: when(begunAt),
    endedAt: when(endedAt),
  }));
  if (json) {
    const firmware = { modules, flashings };
    const kept = { failures, releases, marks, calls, ...firmware, events, olderEvents };
    const all = { deviceId: history.deviceId, keys, backups, attempts, ...kept };
    out.result(JSON.stringify(all));
    return;
  }
  out.result(bold(`device ${history.deviceId}`));
  out.result(`\n${bold('keys')}`);
  out.result(
    keys.length === 0
      ? 'none made here'
      : table(
          ['GEN', 'FINGERPRINT', 'STATE', 'MADE', 'VERIFIED', 'CLOUD', 'TRIES', 'LAST ERROR'],
          keys.map(key => [
            key.generation,
            key.fingerprint.slice(0, 16),
            key.state,
            key.createdAt,
            key.verifiedAt,
            key.cloud.state,
            key.cloud.attempts,
            key.cloud.lastError,
          ]),
        ),
  );
  out.result(`\n${bold('backups')}`);
  out.result(
    backups.length === 0
      ? 'none'
      : table(
          ['ID', 'TAKEN', 'BYTES', 'SHA-256', 'KEY IN IT', 'FINGERPRINT'],
          backups.map(backup => [
            backup.id,
            backup.takenAt,
            backup.bytes,
            backup.sha256.slice(0, 16),
            backup.classification,
            backup.fingerprint?.slice(0, 16) ?? null,
          ]),
        ),
  );
  out.result(`\n${bold('attempts')}`);
  out.result(
    table(
      ['RUN', 'STARTED', 'PATH', 'OUTCOME', 'CODE', 'STEPS'],
      attempts.map(attempt => [
        attempt.run,
        attempt.startedAt,
        attempt.path,
        attempt.outcome ?? 'cut short',
        attempt.code,
        attempt.steps.map(({ name, state, ms }) => `${name} ${state === 'ok' ? `${ms} ms` : state}`).join(', '),
      ]),
    ),
  );
  printFirmware(history, out);
  if (calls.length > 0) {
    out.result(`\n${bold('calls')}`);
    const cells = calls.map(one => [one.kind, one.state, one.attempts, one.nextAt, one.lastStatus, one.lastError]);
    out.result(table(['WHAT', 'STATE', 'TRIES', 'NEXT', 'STATUS', 'LAST ERROR'], cells));
  }
  if (failures > 0)
    out.result(`\n${failures} failed ${failures === 1 ? 'attempt counts' : 'attempts count'} against it`);
  for (const { releasedAt, why } of releases)
    out.result(`released ${releasedAt ?? ''}${why === null ? '' : `: ${why}`}`);
  printTimeline(history, out);
}

/** What is on it, as it was last seen; nothing where nobody has looked. */
function printFirmware({ modules, flashings }: DeviceHistory, out: Output): void {
  if (modules.length === 0) return;
  out.result(`\n${bold('modules')}`);
  const newest = new Map(modules.map(module => [module.slot, module]));
  out.result(
    table(
      ['SLOT', 'STATE', 'VERSION', 'SHA-256', 'SEEN'],
      [...newest.values()].map(({ slot, state, version, sha256, seenAt }) => [
        slot,
        state,
        version,
        sha256?.slice(0, 16) ?? null,
        when(seenAt),
      ]),
    ),
  );
  for (const { begunAt, endedAt, state, wanted } of flashings) {
    const what = wanted.map(({ slot, version }) => `${slot} ${version}`).join(', ');
    const end =
      endedAt === null
        ? 'not through: the device is between parts, run again'
        : `${state === 'whole' ? 'whole' : 'given up for another'} ${when(endedAt) ?? ''}`;
    out.result(`flashing of ${what}, begun ${when(begunAt) ?? ''}: ${end}`);
  }
}

function printTimeline(history: DeviceHistory, out: Output): void {
  const { olderEvents } = history;
  const moments = timelineOf(history);
  if (moments.length === 0) return;
  out.result(`\n${bold('timeline')}`);
  if (olderEvents > 0) {
    out.result(`${olderEvents} older events are not shown: \`photon-fleet audit export --device ID\` has them all`);
  }
  out.result(timeline(moments));
}
