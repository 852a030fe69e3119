import type Database from 'better-sqlite3';
import type { JournalEvent, SetRow } from './event.ts';
import { trackedTables } from './tracked.ts';
import type { Tracked } from './tracked.ts';

/** So many problems are told one by one. */
const MOST_TOLD = 50;
/** Rows that are gathered before they are written down: what happens to a row mostly happens at once. */
const ROWS_AT_ONCE = 20_000;
/** Of the private database; beyond it lies on disk. */
const CACHE_KIB = 65_536;

export interface Replayed {
  readonly events: number;
  /** Every row that is not what the journal says, in words. */
  readonly problems: readonly string[];
}

/**
 * Makes the tables anew from the journal, beside those that are there, and compares each row and each column. Sealed
 * bytes are compared by their hash. Runs in one snapshot of the record, on a private temporary database: memory does not
 * grow with the journal.
 */
export function replayJournal(raw: Database.Database): Replayed {
  raw.exec(`ATTACH '' AS replayed`);
  try {
    raw.pragma(`replayed.cache_size = ${-CACHE_KIB}`);
    raw.exec('BEGIN');
    return new Replay(raw).run();
  } finally {
    if (raw.inTransaction) raw.exec('ROLLBACK');
    raw.exec('DETACH replayed');
  }
}

class Replay {
  readonly #raw: Database.Database;
  readonly #tables: readonly Tracked[];
  readonly #byName: ReadonlyMap<string, Tracked>;
  readonly #statements = new Map<string, Database.Statement>();
  readonly #gathered = new Map<string, { table: Tracked; isNew: boolean; values: Record<string, unknown> }>();
  readonly #problems: string[] = [];
  readonly #station: string;

  constructor(raw: Database.Database) {
    this.#raw = raw;
    this.#station = raw.prepare<[], string>('SELECT station_id FROM station').pluck().get() ?? '';
    this.#tables = trackedTables(raw);
    this.#byName = new Map(this.#tables.map(table => [table.name, table]));
    for (const { name, typed, key } of this.#tables) {
      // The same types as in the record: without them no index would serve the comparison.
      raw.exec(`CREATE TABLE replayed.${name} (${typed.join(', ')}, PRIMARY KEY (${key.join(', ')})) WITHOUT ROWID`);
    }
  }

  run(): Replayed {
    let events = 0;
    const page = this.#raw.prepare<[number], { seq: number; body: string }>(
      `SELECT seq, body FROM journal WHERE seq > ? AND body LIKE '%"set":%' ORDER BY seq LIMIT 500`,
    );
    for (let after = 0; ;) {
      const rows = page.all(after);
      const last = rows.at(-1);
      if (!last) break;
      for (const { seq, body } of rows) {
        this.#take(seq, body);
        if (this.#gathered.size >= ROWS_AT_ONCE) this.#write();
      }
      after = last.seq;
    }
    this.#write();
    events = this.#raw.prepare<[], number>('SELECT count(*) FROM journal').pluck().get() ?? 0;
    for (const table of this.#tables) this.#compare(table);
    return { events, problems: this.#problems };
  }

  #take(seq: number, body: string): void {
    let event: Partial<JournalEvent>;
    try {
      event = JSON.parse(body) as Partial<JournalEvent>;
    } catch {
      this.#problem(`event ${seq} is no event`);
      return;
    }
    if (event.station !== this.#station) this.#problem(`event ${seq} is of another station`);
    const set: unknown = event.set;
    if (!Array.isArray(set)) return;
    for (const row of set as SetRow[]) {
      const table = isSetRow(row) ? this.#byName.get(row[0]) : undefined;
      if (table) this.#gather(table, row);
      else this.#problem(`event ${seq} tells of a table that there is not`);
    }
  }

  #gather(table: Tracked, row: SetRow): void {
    const [, keyOrRow, changed] = row;
    let key = table.name;
    for (const column of table.key) key += ` ${String(keyOrRow[column])}`;
    const known = this.#gathered.get(key);
    if (known && changed) Object.assign(known.values, changed);
    else if (known) this.#problem(`${key} was added twice`);
    else
      this.#gathered.set(key, {
        table,
        isNew: !changed,
        values: changed ? { ...keyOrRow, ...changed } : { ...keyOrRow },
      });
  }

  #write(): void {
    for (const [key, { table, isNew, values }] of this.#gathered) {
      const given = Object.keys(values);
      try {
        const statement = this.#statement(table, isNew, given);
        if (isNew) {
          statement.run(Object.values(values));
          continue;
        }
        const changed = given.filter(column => !table.key.includes(column)).map(column => values[column]);
        const { changes } = statement.run([...changed, ...table.key.map(column => values[column])]);
        if (changes === 0) this.#problem(`${key} was changed before it was added`);
      } catch {
        this.#problem(`${key} was added twice, or makes no sense`);
      }
    }
    this.#gathered.clear();
  }

  /** Adds a row with these columns, or changes those of them that are not its key. */
  #statement(table: Tracked, isNew: boolean, given: readonly string[]): Database.Statement {
    const shape = `${isNew ? '+' : ''}${table.name} ${given.join(' ')}`;
    let statement = this.#statements.get(shape);
    if (statement) return statement;
    const known = given.filter(column => table.columns.includes(column));
    if (known.length < given.length) throw new Error(`a column of ${table.name} that there is not`);
    const changed = known.filter(column => !table.key.includes(column));
    statement = this.#raw.prepare(
      isNew
        ? `INSERT INTO replayed.${table.name} (${known.join(', ')}) VALUES (${known.map(() => '?').join(', ')})`
        : `UPDATE replayed.${table.name} SET ${changed.map(column => `${column} = ?`).join(', ')}
            WHERE ${table.key.map(column => `${column} = ?`).join(' AND ')}`,
    );
    this.#statements.set(shape, statement);
    return statement;
  }

  #compare({ name, columns, key }: Tracked): void {
    const same = key.map(column => `there.${column} = told.${column}`).join(' AND ');
    const differs = columns
      .filter(column => !key.includes(column))
      .map(column => `CASE WHEN there.${column} IS NOT told.${column} THEN '${column} ' ELSE '' END`)
      .join(' || ');
    const keyOf = (table: string): string => key.map(column => `${table}.${column}`).join(` || ' ' || `);
    const limit = `LIMIT ${MOST_TOLD + 1}`;
    const changed = this.#raw
      .prepare<[], { id: string; columns: string }>(
        `SELECT ${keyOf('there')} AS id, ${differs} AS columns
           FROM main.${name} AS there JOIN replayed.${name} AS told ON ${same} WHERE ${differs} <> '' ${limit}`,
      )
      .all();
    for (const { id, columns: which } of changed) {
      this.#problem(`${name} ${id} is not what the journal says: ${which.trim().replaceAll(' ', ', ')}`);
    }
    const missing = (from: string, to: string, says: string): void => {
      const rows = this.#raw
        .prepare<[], { id: string }>(
          `SELECT ${keyOf('one')} AS id FROM ${from}.${name} AS one WHERE NOT EXISTS (
             SELECT 1 FROM ${to}.${name} AS other
              WHERE ${key.map(column => `other.${column} = one.${column}`).join(' AND ')}) ${limit}`,
        )
        .all();
      for (const { id } of rows) this.#problem(`${name} ${id} ${says}`);
    };
    missing('main', 'replayed', 'is there, and the journal does not know it');
    missing('replayed', 'main', 'is in the journal, and not there');
  }

  #problem(words: string): void {
    if (this.#problems.length < MOST_TOLD) this.#problems.push(words);
    else if (this.#problems.length === MOST_TOLD) this.#problems.push('… and more');
  }
}

function isSetRow(row: unknown): boolean {
  const isMap = (value: unknown): boolean => typeof value === 'object' && value !== null;
  return Array.isArray(row) && isMap(row[1]) && (row.length === 2 || isMap(row[2]));
}
