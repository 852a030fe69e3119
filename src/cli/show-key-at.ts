import { systemClock, timestamp } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { when } from '../report/json.ts';
import { bold } from '../report/terminal.ts';
import { isSame } from '../store/ops/key-at.ts';
import type { KeyAt, Proof } from '../store/ops/key-at.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { KeysArgs } from './commands/keys.ts';
import { configOf, openRecord } from './compose.ts';
import { parseMoment } from './moment.ts';
import type { Moment } from './moment.ts';

/** `keys at`: which key was on a device at a moment, how that is known, and who put it there. */
export async function showKeyAt(args: KeysArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = parseDeviceId(args.what ?? '');
  if (!deviceId) throw new Fault('USAGE', 'that is no device ID', { hint: 'a device ID has 24 hex digits' });
  if (args.time === undefined) {
    throw new Fault('USAGE', 'keys at takes a time', { hint: 'add --time 2026-05-03T09:00:00Z, or --time 2026-05-03' });
  }
  const moment = parseMoment(args.time);
  await using store = await openRecord(configOf(args, {}, context));
  const found = await store.call('keyAt', { deviceId, time: moment.at });
  if (args.json) context.out.result(JSON.stringify(jsonOf(found, moment)));
  else for (const line of linesOf(found, moment)) context.out.result(line);
  return 0;
}

function jsonOf({ since, lastSeen, next, until, by, unproven, mark, ...about }: KeyAt, { readAs }: Moment): object {
  return {
    deviceId: about.deviceId,
    time: timestamp(about.time),
    readAs,
    certainty: about.certainty,
    fingerprint: lastSeen?.fingerprint ?? null,
    classification: lastSeen?.classification ?? null,
    generation: since?.generation ?? lastSeen?.generation ?? null,
    since: when(since?.at ?? null),
    source: since?.source ?? null,
    reason: since?.reason ?? null,
    run: by?.run ?? since?.run ?? null,
    operator: by?.operator ?? null,
    event: by?.seq ?? null,
    lastSeenAt: when(lastSeen?.at ?? null),
    nextSeenAt: when(next?.at ?? null),
    until: when(until?.at ?? null),
    next: next && { at: timestamp(next.at), fingerprint: next.fingerprint, source: next.source },
    unproven: unproven && { at: timestamp(unproven.at), fingerprint: unproven.fingerprint },
    mark: mark && { state: mark.state, why: mark.why, at: timestamp(mark.at) },
  };
}

function linesOf(found: KeyAt, { readAs }: Moment): string[] {
  const { deviceId, time, since, lastSeen, next, by, unproven, mark } = found;
  const future = time > systemClock.now() ? ', which is yet to come' : '';
  const lines = [bold(`device ${deviceId} at ${timestamp(time)}`) + (readAs === null ? '' : ` (${readAs})`) + future];
  if (!since || !lastSeen) {
    lines.push('unknown: nobody had looked by then');
    if (next) lines.push(`the first look, at ${timestamp(next.at)}, ${showed(next)}`);
    return lines;
  }
  const run = by?.run ?? since.run;
  const who = [...(run === null ? [] : [`run ${run}`]), ...(by ? [`by ${printable(by.operator, 60)}`] : [])].join(', ');
  lines.push(nameOf(since, lastSeen));
  lines.push(`since    ${timestamp(since.at)}: ${printable(since.reason)}${who === '' ? '' : ` (${who})`}`);
  if (!by) lines.push('         who did it is not on record: it is older than the journal');
  lines.push(`known    ${howKnown(found)}`);
  if (unproven) {
    const what = unproven.fingerprint === null ? '' : ` of key ${unproven.fingerprint.slice(0, 16)}`;
    lines.push(`but      a write${what}, begun by ${timestamp(unproven.at)}, is not proven: it may be there instead`);
  }
  if (mark) lines.push(`marked   ${mark.state} at ${timestamp(mark.at)}: ${printable(mark.why, 500)}`);
  return lines;
}

function nameOf({ generation }: Proof, { fingerprint, classification }: Proof): string {
  if (fingerprint === null) return `no key that can be read (${printable(classification, 40)})`;
  const whose = generation === null ? 'a key that was not made here' : `key ${generation}`;
  const form = classification === 'readable' ? '' : ` (${printable(classification, 40)})`;
  return `${whose}, fingerprint ${fingerprint}${form}`;
}

function showed(look: Proof): string {
  if (look.fingerprint === null) return `showed no key that can be read (${printable(look.classification, 40)})`;
  return `${look.source === 'verified' ? 'proved' : 'showed'} key ${look.fingerprint.slice(0, 16)}`;
}

function howKnown({ certainty, lastSeen, next }: KeyAt): string {
  const seen = `seen there at ${timestamp(lastSeen?.at ?? 0)}`;
  if (!lastSeen || !next) return `inferred: ${seen}, and not looked at since`;
  if (isSame(lastSeen, next)) return `${certainty}: ${seen}, and again at ${timestamp(next.at)}`;
  if (next.source === 'backup') {
    return `inferred: ${seen}; at ${timestamp(next.at)} a backup ${showed(next)}, and when that came nobody saw`;
  }
  return `${certainty}: ${seen}, until this station replaced it at ${timestamp(next.at)}`;
}
