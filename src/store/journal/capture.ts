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

/** @returns what takes out all that was noted since it was last called, in its order */
export function changesNotedBy(raw: Database.Database): () => Change[] {
  const noted = raw.prepare<[], { tbl: string; old: string | null; now: string }>(
    'SELECT tbl, old, now FROM temp.changed ORDER BY n',
  );
  const forget = raw.prepare('DELETE FROM temp.changed');
  return () => {
    const rows = noted.all();
    if (rows.length === 0) return [];
    forget.run();
    return rows
      .filter(({ old, now }) => old !== now)
      .map(({ tbl, old, now }) => ({
        table: tbl,
        old: old === null ? null : (JSON.parse(old) as Row),
        now: JSON.parse(now) as Row,
      }));
  };
}
