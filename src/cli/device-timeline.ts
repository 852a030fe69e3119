import { timestamp } from '../core/clock.ts';
import type { Moment } from '../report/timeline.ts';
import type { DeviceEvent } from '../store/ops/device-events.ts';
import type { DeviceHistory } from '../store/ops/history.ts';

/** Events of the journal in the words of the bench; one that is not here goes by its name. */
const WORDS: Readonly<Record<string, string>> = {
  'device-seen': 'seen',
  'backup-taken': 'backup taken',
  'write-prepared': 'write prepared',
  'key-made': 'key made',
  'write-begun': 'write begun',
  written: 'key written',
  verified: 'key verified',
  'left-to-outbox': 'send left to the outbox',
  left: 'left DFU mode',
  'roll-back-begun': 'roll-back begun',
  'rolled-back': 'rolled back',
  'write-abandoned': 'write given up',
  'verification-failed': 'verification failed',
  'row-settled': 'settled',
  sent: 'key sent',
  accepted: 'accepted by the cloud',
  refused: 'refused by the cloud',
  unanswered: 'no clear answer of the cloud',
  'send-retried': 'send to be tried again',
  'send-dropped': 'send dropped',
  superseded: 'older send superseded',
  restored: 'earlier key put back',
  quarantined: 'put into quarantine',
  released: 'released from quarantine',
  'modules-seen': 'modules seen',
  'flash-begun': 'flashing begun',
  flashed: 'flashed, every byte proven',
  'restore-asked': 'restore asked for',
  'call-queued': 'call put on record',
  'call-made': 'call made',
  'call-done': 'call done',
  'call-refused': 'call refused by the cloud',
  'call-unanswered': 'no clear answer to a call',
  'call-retried': 'call to be made again',
  'call-dropped': 'call dropped',
  'call-superseded': 'older call superseded',
};

/**
 * What happened to a device, oldest first: the journal's events, what hands have said of its keys, and what the tables
 * know from before there was a journal.
 */
export function timelineOf({ events, keys, marks, journalBegan }: DeviceHistory): Moment[] {
  const [first] = events;
  const since = first && first.seq > 1 ? Date.parse(first.at) : 0;
  const changes = keys.flatMap(({ generation, fingerprint, changes }) =>
    changes.map(({ at, state, reason }) => ({ at, state, reason, generation, fingerprint })),
  );
  const momentOfChange = ({ at, state, reason, generation, fingerprint }: (typeof changes)[number]): Moment => {
    return { at: timestamp(at), what: `key ${generation} ${state}`, run: null, by: null, fingerprint, why: reason };
  };
  const before = changes.filter(({ at, state }) => at < journalBegan && !isMark(state)).map(momentOfChange);
  // An event says of what replaced a key that it did, and not which key that was.
  const ended = changes.filter(({ at, state }) => state === 'deactivated' && at >= journalBegan && at >= since);
  const marked = marks.filter(mark => !events.some(event => tellsOf(event, mark)));
  const beside = [...ended.map(momentOfChange), ...marked.map(momentOfMark)].sort(byTime);
  return [...before.sort(byTime), ...merge(events.map(momentOf), beside)];
}

type Mark = DeviceHistory['marks'][number];

const isMark = (state: string): boolean => state === 'compromised' || state === 'destroyed';

function tellsOf(event: DeviceEvent, { fingerprint, state, why }: Mark): boolean {
  return (
    event.event === 'marked' && event['fingerprint'] === fingerprint && event['state'] === state && event['why'] === why
  );
}

function momentOfMark({ markedAt, state, fingerprint, why }: Mark): Moment {
  return { at: timestamp(markedAt), what: `key marked ${state}`, run: null, by: null, fingerprint, why };
}

function byTime(a: Moment, b: Moment): number {
  return a.at < b.at ? -1 : a.at > b.at ? 1 : 0;
}

/** The journal's own order stays, even where its clock jumped. */
function merge(events: readonly Moment[], beside: readonly Moment[]): Moment[] {
  const merged: Moment[] = [];
  let next = 0;
  for (const event of events) {
    for (let one = beside[next]; one && byTime(one, event) < 0; one = beside[next]) {
      merged.push(one);
      next += 1;
    }
    merged.push(event);
  }
  return [...merged, ...beside.slice(next)];
}

function momentOf(told: DeviceEvent): Moment {
  const { at, event, run, operator } = told;
  return {
    at,
    what: wordsOf(told, WORDS[event] ?? event),
    run,
    by: operator,
    fingerprint: text(told['fingerprint']),
    why: whyOf(told),
  };
}

function wordsOf(told: DeviceEvent, words: string): string {
  const backup = number(told['backup']);
  const generation = number(told['generation']);
  if (told.event === 'backup-taken' && backup !== null) return `backup ${backup} taken`;
  const call = text(told['call']);
  if (call !== null) return `${words} (${call})`;
  if (told.event === 'marked') return `key marked ${text(told['state']) ?? ''}`;
  if (told.event === 'row-settled') return `${words}: ${text(told['outcome']) ?? 'open'}`;
  if (generation !== null && words.startsWith('key ')) return words.replace('key ', `key ${generation} `);
  return words;
}

function whyOf(told: DeviceEvent): string | null {
  const status = number(told['status']);
  const parts = [
    text(told['code']),
    told.event === 'backup-taken' ? text(told['classification']) : null,
    status === null ? null : `status ${status}`,
    text(told['reason']),
    text(told['why']),
    listed(told['wanted'] ?? told['modules']),
  ].filter(part => part !== null);
  return parts.length === 0 ? null : parts.join(': ');
}

const listed = (value: unknown): string | null => (Array.isArray(value) ? value.join(', ') : null);
const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
const number = (value: unknown): number | null => (typeof value === 'number' ? value : null);
