import type Database from 'better-sqlite3';
import type { Journal } from './journal/journal.ts';

/** A trigger or an index, with the SQL that makes it. */
export interface Guard {
  readonly name: string;
  readonly sql: string;
}

/** A connection with its prepared statements: each text is prepared once. */
export class Db {
  readonly raw: Database.Database;
  readonly journal: Journal;
  readonly #statements = new Map<string, Database.Statement>();

  /** The triggers and indexes of the schema, as the migrations make them; made anew for whoever asks. */
  readonly guards: () => readonly Guard[];

  /** Opens another record, a copy of this one, in the same way. */
  readonly openCopy: (path: string) => Db;

  constructor(
    raw: Database.Database,
    journal: Journal,
    { guards, openCopy }: { guards: () => readonly Guard[]; openCopy: (path: string) => Db },
  ) {
    this.raw = raw;
    this.journal = journal;
    this.guards = guards;
    this.openCopy = openCopy;
  }

  /** The rows of a query; the caller names their shape, which the schema in migrations/ guarantees. */
  all<Row>(sql: string, ...values: unknown[]): Row[] {
    return this.#prepare(sql).all(...values) as Row[];
  }

  get<Row>(sql: string, ...values: unknown[]): Row | undefined {
    return this.#prepare(sql).get(...values) as Row | undefined;
  }

  run(sql: string, ...values: unknown[]): { changes: number; id: number } {
    const { changes, lastInsertRowid } = this.#prepare(sql).run(...values);
    return { changes, id: Number(lastInsertRowid) };
  }

  /** For a change that must hit exactly one row: anything else means that the record is not what the program thinks. */
  change(sql: string, ...values: unknown[]): void {
    const { changes } = this.run(sql, ...values);
    if (changes !== 1) throw new Error(`a change of the record touched ${changes} rows instead of 1`);
  }

  #prepare(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.raw.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}
