import type Database from 'better-sqlite3';

/** A table that the journal tells whole: its columns in their order, and those that name a row. */
export interface Tracked {
  readonly name: string;
  readonly columns: readonly string[];
  /** The columns with their types, as a CREATE TABLE has them. */
  readonly typed: readonly string[];
  readonly key: readonly string[];
}

/** In an order in which no row comes before one that it points at. */
const TABLES = [
  'station',
  'runs',
  'rows',
  'devices',
  'attempts',
  'steps',
  'backups',
  'keys',
  'writes',
  'sends',
  'releases',
  'restores',
  'working_identities',
  'key_changes',
  'key_marks',
  'prepared_keys',
  'modules',
  'flashings',
  'cloud_calls',
] as const;

/** Sealed bytes are told by their hash; a lease is no event, it passes. */
const UNTOLD = new Set(['sealed', 'sealed_private', 'lease_owner', 'lease_until']);

/** The tables of the schema as it is, which in the midst of the migrations may lack some. */
export function trackedTables(raw: Database.Database): Tracked[] {
  return TABLES.flatMap(name => {
    const info = raw.pragma(`table_info(${name})`) as { name: string; type: string; pk: number }[];
    if (info.length === 0) return [];
    const told = info.filter(column => !UNTOLD.has(column.name));
    const columns = told.map(column => column.name);
    const typed = told.map(column => `${column.name} ${column.type}`);
    const keyed = info.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk);
    return { name, columns, typed, key: keyed.map(column => column.name) };
  });
}
