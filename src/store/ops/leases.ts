/* What sends and calls have in common: pages of what is due, and leases of which each holder frees its own. */

/** So many in one page. */
export const DUE_AT_ONCE = 500;

/** The time by which something has to be due, for `:dueAt`: any, where nobody waits for it. */
export const dueAt = ({ at, ignoreDue }: { at: number; ignoreDue: boolean }): number =>
  ignoreDue ? Number.MAX_SAFE_INTEGER : at;

/** Sets of an UPDATE, with `:owner`. A lease that ran out may be another's by now: each frees its own alone. */
export const FREE_OWN = `lease_until = CASE WHEN lease_owner = :owner THEN NULL ELSE lease_until END,
              lease_owner = CASE WHEN lease_owner = :owner THEN NULL ELSE lease_owner END`;
