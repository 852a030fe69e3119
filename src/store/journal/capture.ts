import type Database from 'better-sqlite3';
import type { Tracked } from './tracked.ts';

type Value = string | number | null;

export type Row = Readonly<Record<string, Value>>;

/** A row that was added (`old` is null), or in which a value changed. */
export interface Change {
  readonly table: string;
  readonly old: Row | null;
  readonly now: Row;
}

/**
 * Lets the connection note every row that it adds or changes, whichever statement does it: what an operation did to the
 * record is read from here, so none can forget to tell of it. The triggers are temporary: the schema knows nothing of them.
 * What a statement had done before it failed is noted too, so whoever goes on after a failure takes the notes out first.
 * @returns what takes out all that was noted since it was last called, in its order
 */
export function noteChanges(raw: Database.Database, tables: readonly Tracked[]): () => Change[] {
  let noted: { readonly table: Tracked; readonly values: readonly Value[] }[] = [];
  for (const table of tables) {
    const { name, columns } = table;
    raw.function(`noted_${name}`, { varargs: true }, (...values: Value[]) => {
      noted.push({ table, values });
      return null;
    });
    const row = (which: 'OLD' | 'NEW'): string => columns.map(column => `${which}.${column}`).join(', ');
    raw.exec(
      `CREATE TEMP TRIGGER noted_${name}_added AFTER INSERT ON main.${name}
         BEGIN SELECT noted_${name}(${row('NEW')}); END;
       CREATE TEMP TRIGGER noted_${name}_changed AFTER UPDATE ON main.${name}
         BEGIN SELECT noted_${name}(${row('NEW')}, ${row('OLD')}); END;`,
    );
  }
  return () => {
    const taken = noted;
    noted = [];
    const changes: Change[] = [];
    for (const { table, values } of taken) {
      const { name, columns } = table;
      const width = columns.length;
      if (values.length === width) changes.push({ table: name, old: null, now: rowOf(columns, values, 0) });
      else if (columns.some((_, n) => values[n] !== values[width + n])) {
        changes.push({ table: name, old: rowOf(columns, values, width), now: rowOf(columns, values, 0) });
      }
    }
    return changes;
  };
}

function rowOf(columns: readonly string[], values: readonly Value[], from: number): Row {
  const row: Record<string, Value> = {};
  for (const [n, column] of columns.entries()) row[column] = values[from + n] ?? null;
  return row;
}
