import type Database from 'better-sqlite3';
import type { Change, Row } from './capture.ts';
import type { Journal } from './journal.ts';
import { trackedTables } from './tracked.ts';

const ROWS_AT_ONCE = 5000;

/** The first events of a journal: what was on record before there was one, so that the tables follow from it whole. */
export function adoptRecord(raw: Database.Database, journal: Journal): void {
  let event = 'journal-begun';
  for (const { name, columns, key } of trackedTables(raw)) {
    const page = raw.prepare<[number], Row>(
      `SELECT ${columns.join(', ')} FROM ${name} ORDER BY ${key.join(', ')} LIMIT ${ROWS_AT_ONCE} OFFSET ?`,
    );
    for (let offset = 0; ; offset += ROWS_AT_ONCE) {
      const changes = page.all(offset).map((now): Change => ({ table: name, old: null, now }));
      if (changes.length === 0) break;
      journal.append([{ event }], changes);
      event = 'record-adopted';
    }
  }
}
