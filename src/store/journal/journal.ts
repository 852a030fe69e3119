import { uptime } from 'node:os';
import type Database from 'better-sqlite3';
import { noteChanges } from './capture.ts';
import type { Change } from './capture.ts';
import { hashOf, NO_HASH } from './event.ts';
import type { SetRow, Told } from './event.ts';
import { trackedTables } from './tracked.ts';
import type { Tracked } from './tracked.ts';

/** So many rows at most are told by one event; the others follow in events of their own. */
const ROWS_AT_ONCE = 200;
/** How often the two clocks are compared. */
const LOOK_EVERY_MS = 100;
/** More than this between this machine's two clocks is a jump of the one that tells the time of day. */
const JUMP_MS = 2000;

export interface Head {
  /** 0 for an empty journal. */
  readonly seq: number;
  readonly hash: Buffer;
}

/** This machine's two clocks at one moment, in ms. */
interface Clocks {
  readonly wall: number;
  readonly steady: number;
}

/** The last event, as the next one follows from it. */
interface Last extends Head {
  /** When it was told, in epoch milliseconds; NaN where there is none. */
  readonly atMs: number;
}

/** Appends to the journal, on one connection, inside the transaction of whatever is told. */
export class Journal {
  readonly #raw: Database.Database;
  readonly #tables: ReadonlyMap<string, Tracked>;
  readonly #operator: string;
  readonly #head: Database.Statement<[], { seq: number; hash: Buffer; body: string }>;
  readonly #append: Database.Statement;
  #station: string | null = null;
  #said: Told[] = [];
  #taken: () => Change[] = () => [];
  #clocks: Clocks | null = null;
  /** As long as nobody else can append: the last event, once it is known, and the clocks as they were compared before. */
  #held: { last: Last | null; readonly clocks: Clocks | null } | null = null;

  constructor(raw: Database.Database, operator: string) {
    this.#raw = raw;
    this.#operator = operator;
    const tables = trackedTables(raw);
    this.#tables = new Map(tables.map(table => [table.name, table]));
    this.#head = raw.prepare('SELECT seq, hash, body FROM journal ORDER BY seq DESC LIMIT 1');
    this.#append = raw.prepare('INSERT INTO journal (seq, prev, body, hash) VALUES (?, ?, ?, ?)');
  }

  /** From here on, every row that this connection adds or changes is noted. */
  noteChanges(): void {
    this.#taken = noteChanges(this.#raw, [...this.#tables.values()]);
  }

  /** What has changed since the last call and has not been told. */
  takeChanges(): Change[] {
    return this.#taken();
  }

  /** For what an operation has to tell beside the rows that it changes. */
  say(told: Told): void {
    this.#said.push(told);
  }

  takeSaid(): Told[] {
    return this.#said.splice(0);
  }

  head(): Head {
    return this.#readLast();
  }

  /**
   * From here on nobody else can append, since this connection holds the database in a transaction: the last event is read once
   * and remembered.
   */
  hold(): void {
    this.#held = { last: null, clocks: this.#clocks };
  }

  /** The transaction is committed. */
  letGo(): void {
    this.#held = null;
  }

  /** The transaction is taken back: a jump of the clock that was told in it is told again. */
  takeBack(): void {
    if (this.#held) this.#clocks = this.#held.clocks;
    this.#held = null;
  }

  #readLast(): Last {
    const head = this.#head.get();
    if (!head) return { seq: 0, hash: NO_HASH, atMs: NaN };
    return { seq: head.seq, hash: head.hash, atMs: Date.parse((/"at":"([^"]+)"/.exec(head.body) ?? [])[1] ?? '') };
  }

  /** Tells of `changes` with the first of `told`; the others have no rows of their own. */
  append(told: readonly [Told, ...Told[]], changes: readonly Change[]): void {
    const before = this.#held?.last ?? this.#readLast();
    let { seq, hash: prev } = before;
    const now = Date.now();
    const jump = this.#jump(now, before.atMs);
    const set = changes.map(change => this.#setRow(change));
    const write = (one: Told, rows: readonly SetRow[]): void => {
      seq += 1;
      const body = this.#body(seq, now, one, rows);
      const hash = hashOf(prev, body);
      this.#append.run(seq, prev, body, hash);
      prev = hash;
    };
    const [first, ...others] = told;
    if (jump) write(jump, []);
    write(first, set.slice(0, ROWS_AT_ONCE));
    for (let from = ROWS_AT_ONCE; from < set.length; from += ROWS_AT_ONCE) {
      const continued = { event: 'continued', run: first.run, facts: { of: first.event } };
      write(continued, set.slice(from, from + ROWS_AT_ONCE));
    }
    for (const other of others) write(other, []);
    if (this.#held) this.#held.last = { seq, hash: prev, atMs: now };
  }

  #body(seq: number, now: number, { event, device, run, facts }: Told, set: readonly SetRow[]): string {
    const at = new Date(now).toISOString();
    const station = this.#stationId();
    const operator = this.#operator;
    const rows = set.length > 0 ? { set } : {};
    return JSON.stringify({ v: 1, seq, at, station, operator, event, device, run, ...facts, ...rows });
  }

  #stationId(): string {
    this.#station ??= this.#raw.prepare<[], string>('SELECT station_id FROM station').pluck().get() ?? '';
    return this.#station;
  }

  /** A time of day before that of the event before, or one that did not go as this machine's steady clock did. */
  #jump(now: number, last: number): Told | null {
    const clocks = this.#clocks;
    // The clocks were compared just now: asking the system for each event would take a tenth of its time.
    const isSoon = clocks !== null && now >= clocks.wall && now - clocks.wall < LOOK_EVERY_MS;
    if (isSoon && !(now < last - JUMP_MS)) return null;
    const steady = uptime() * 1000; // goes on while the machine sleeps
    this.#clocks = { wall: now, steady };
    const expected = clocks ? clocks.wall + (steady - clocks.steady) : now;
    const by = Math.abs(now - expected) > JUMP_MS ? now - expected : now < last - JUMP_MS ? now - last : 0;
    return by === 0 ? null : { event: 'clock-jump', facts: { byMs: Math.round(by) } };
  }

  #setRow({ table, old, now }: Change): SetRow {
    const told: Record<string, unknown> = {};
    for (const column in now) {
      if (now[column] !== (old?.[column] ?? null)) told[column] = now[column];
    }
    if (old === null) return [table, told];
    const key: Record<string, unknown> = {};
    for (const column of this.#tables.get(table)?.key ?? []) key[column] = old[column];
    return [table, key, told];
  }
}
