import { CLOSED_PHASES } from '../../core/ledger.ts';

/** A write that has not come to its end, in SQL. */
export const IS_OPEN = `writes.phase NOT IN (${CLOSED_PHASES.map(phase => `'${phase}'`).join(', ')})`;
