import type Database from 'better-sqlite3';
import type { Tracked } from './tracked.ts';

export type Row = Readonly<Record<string, string | number | null>>;

/** A row that was added (`old` is null), or changed. */
export interface Change {
  readonly table: string;
  readonly old: Row | null;
  readonly now: Row;
}

/**
 * Lets the connection note every row that it adds or changes, whichever statement does it: what an operation did to the
 * record is read from here, so none can forget to tell of it. The triggers are temporary: the schema knows nothing of them.
 */
export function noteChanges(raw: Database.Database, tables: readonly Tracked[]): void {
  raw.exec('CREATE TEMP TABLE changed (n INTEGER PRIMARY KEY, tbl TEXT NOT NULL, old TEXT, now TEXT NOT NULL)');
  for (const { name, columns, typed } of tables) {
    // A text that a JSON function has made would be taken for JSON, and not for text.
    const valueOf = (column: string, n: number): string => (typed[n]?.endsWith(' TEXT') ? `${column} || ''` : column);
    const row = (which: 'OLD' | 'NEW'): string =>
      `json_object(${columns.map((column, n) => `'${column}', ${valueOf(`${which}.${column}`, n)}`).join(', ')})`;
    raw.exec(
      `CREATE TEMP TRIGGER noted_${name}_added AFTER INSERT ON main.${name}
         BEGIN INSERT INTO changed (tbl, now) VALUES ('${name}', ${row('NEW')}); END;
       CREATE TEMP TRIGGER noted_${name}_changed AFTER UPDATE ON main.${name}
         BEGIN INSERT INTO changed (tbl, old, now) VALUES ('${name}', ${row('OLD')}, ${row('NEW')}); END;`,
    );
  }
}

/** What was noted since the last call, in its order; it is noted no longer. */
export function takeChanges(raw: Database.Database): Change[] {
  const rows = statement(raw, 'SELECT tbl, old, now FROM temp.changed ORDER BY n').all() as {
    tbl: string;
    old: string | null;
    now: string;
  }[];
  if (rows.length === 0) return [];
  statement(raw, 'DELETE FROM temp.changed').run();
  return rows
    .filter(({ old, now }) => old !== now)
    .map(({ tbl, old, now }) => ({
      table: tbl,
      old: old === null ? null : (JSON.parse(old) as Row),
      now: JSON.parse(now) as Row,
    }));
}

const statements = new WeakMap<Database.Database, Map<string, Database.Statement>>();

function statement(raw: Database.Database, sql: string): Database.Statement {
  let known = statements.get(raw);
  if (!known) statements.set(raw, (known = new Map<string, Database.Statement>()));
  let prepared = known.get(sql);
  if (!prepared) known.set(sql, (prepared = raw.prepare(sql)));
  return prepared;
}
