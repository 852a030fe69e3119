import { asFault, openDatabase } from '#src/store/database.ts';
import type { Db } from '#src/store/db.ts';
import {
  OUTSIDE_TRANSACTION,
  type OperationInput,
  type OperationName,
  type OperationOutput,
} from '#src/store/operations.ts';
import { perform } from '#src/store/perform.ts';
import type { Store } from '#src/store/store.ts';
import { projectFile } from './project.ts';

const MIGRATIONS = projectFile('migrations');

export type AnyStore = Pick<Store, 'call' | 'close' | 'path'>;

/** The operations of the store over a real database, without its thread and without waiting for the disk. */
export class DirectStore implements AnyStore, AsyncDisposable {
  readonly path: string;
  readonly #db: Db;

  constructor(path: string) {
    this.path = path;
    this.#db = openDatabase({ path, create: true, migrationsDir: MIGRATIONS });
    this.#db.raw.pragma('synchronous = OFF');
  }

  async call<N extends OperationName>(name: N, input: OperationInput<N>): Promise<OperationOutput<N>> {
    await Promise.resolve();
    try {
      if (OUTSIDE_TRANSACTION.includes(name)) return perform(this.#db, name, input);
      return this.#db.raw.transaction(() => perform(this.#db, name, input)).immediate();
    } catch (error) {
      throw asFault(error, this.path);
    }
  }

  close(): Promise<void> {
    this.#db.raw.close();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
