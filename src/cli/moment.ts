import { Fault } from '../core/errors.ts';

/** A moment as a user gave it: epoch milliseconds, and how it was read where that is not plain. */
export interface Moment {
  readonly at: number;
  readonly readAs: string | null;
}

const RFC_3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?([Zz]|([+-])(\d\d):(\d\d))$/;
const DATE = /^(\d{4})-(\d\d)-(\d\d)$/;
const DAY_MS = 86_400_000;

/**
 * RFC 3339 (seconds may be left out), or a date, which is read as the end of its day in UTC.
 * @throws Fault USAGE for anything else, a day that no month has, and a time of day without its zone
 */
export function parseMoment(text: string): Moment {
  const given = text.trim();
  const date = DATE.exec(given);
  if (date) {
    const start = startOfDay(date, given);
    return { at: start + DAY_MS - 1, readAs: `the end of ${given}, UTC` };
  }
  const full = RFC_3339.exec(given);
  if (!full) throw noMoment(given);
  const [hour, minute, second] = [full[4], full[5], full[6]].map(part => Number(part ?? 0)) as [number, number, number];
  const [zoneHours, zoneMinutes] = [full[10], full[11]].map(part => Number(part ?? 0)) as [number, number];
  if (hour > 23 || minute > 59 || second > 59 || zoneHours > 23 || zoneMinutes > 59) throw noMoment(given);
  const ms = Math.floor(Number(`0.${full[7] ?? '0'}`) * 1000);
  const zoneMs = (full[9] === '-' ? -1 : 1) * (zoneHours * 60 + zoneMinutes) * 60_000;
  return { at: startOfDay(full, given) + ((hour * 60 + minute) * 60 + second) * 1000 + ms - zoneMs, readAs: null };
}

/** In UTC. A month that has no such day would be read as one of the next month. */
function startOfDay([, year, month, day]: RegExpExecArray, given: string): number {
  const at = new Date(0).setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  if (new Date(at).getUTCMonth() !== Number(month) - 1 || Number(day) === 0) throw noMoment(given);
  return at;
}

function noMoment(given: string): Fault {
  return new Fault('USAGE', `${JSON.stringify(given.slice(0, 40))} is no time`, {
    hint: 'a time with its zone, such as 2026-05-03T09:00:00Z or 2026-05-03T11:00+02:00, or a date: 2026-05-03',
  });
}
