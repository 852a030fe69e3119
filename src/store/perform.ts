import type { Db } from './db.ts';
import type { Told } from './journal/event.ts';
import { tell } from './journal/tell.ts';
import { OPERATIONS, READS } from './operations.ts';
import type { OperationInput, OperationName, OperationOutput } from './operations.ts';

/** One operation, and, in the same transaction, what the journal says of it. An operation that changes nothing is not told. */
export function perform<N extends OperationName>(db: Db, name: N, input: OperationInput<N>): OperationOutput<N> {
  const operation = OPERATIONS[name] as unknown as (db: Db, input: OperationInput<N>) => OperationOutput<N>;
  if (READS.has(name)) return operation(db, input);
  // Of one that failed half-way.
  db.journal.takeSaid();
  db.journal.takeChanges();
  const output = operation(db, input);
  const changes = db.journal.takeChanges();
  const told: Told[] = [...(changes.length > 0 ? tell(db, name, changes) : []), ...db.journal.takeSaid()];
  const [first, ...others] = told;
  if (first) db.journal.append([first, ...others], changes);
  return output;
}
