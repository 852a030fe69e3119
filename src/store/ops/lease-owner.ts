import { systemCode } from '../../core/system-code.ts';
import type { Db } from '../db.ts';

/**
 * Whether the process that took a lease (`run:PID`, `replay:PID`) may still be there; one that can't be told may be. The
 * clock alone would not do: it can jump back, and a lease would outlive its holder by as much.
 */
export function isOwnerAlive(owner: string): boolean {
  const pid = Number(/^(?:run|replay):([1-9]\d{0,9})$/.exec(owner)?.[1] ?? 0);
  if (pid === 0) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

/** Leases whose holder died with a request on its way: free at once, and their requests may yet be carried out. */
export function freeDeadLeases(db: Db): void {
  const owners = db.all<{ lease_owner: string }>(
    'SELECT DISTINCT lease_owner FROM sends WHERE lease_owner IS NOT NULL',
  );
  for (const { lease_owner: owner } of owners) {
    if (isOwnerAlive(owner)) continue;
    db.run(
      `UPDATE sends SET lease_owner = NULL, lease_until = NULL, unknowns = unknowns + 1, unanswered = unanswered + 1
        WHERE lease_owner = ?`,
      owner,
    );
  }
}
