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
  if (json) {
    const all = {
      ...{ deviceId: history.deviceId, keys, backups, attempts, failures, releases, marks, calls, events, olderEvents },
    };
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
