import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { systemCode } from '../../core/system-code.ts';
import type { Db } from '../db.ts';

/** In whose name this process takes leases: `run:4711@0a1b2c3d`, the last part being where its number means something. */
export function leaseOwner(role: 'run' | 'replay'): string {
  return `${role}:${process.pid}@${processSpace()}`;
}

let space: string | null = null;

/** This boot of this machine, and the PID namespace, which differs in a container; 8 hex digits. */
function processSpace(): string {
  space ??= readProcessSpace();
  return space;
}

function readProcessSpace(): string {
  const parts = [
    () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'),
    () => readlinkSync('/proc/self/ns/pid'),
  ];
  const told = parts.map(read => {
    try {
      return read();
    } catch {
      return ''; // no Linux
    }
  });
  return createHash('sha256').update(told.join('\n')).digest('hex').slice(0, 8);
}

/**
 * Whether the process that took a lease may still be there; one that can't be told may be, until its lease runs out. The
 * clock alone would not do: it can jump back, and a lease would outlive its holder by as much.
 */
export function isOwnerAlive(owner: string): boolean {
  const [, pid = '', theirs] = /^(?:run|replay):([1-9]\d{0,9})@([0-9a-f]{8})$/.exec(owner) ?? [];
  if (theirs !== processSpace()) return true;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

/** Leases whose holder died with a request on its way: free at once, and their requests may yet be carried out. */
export function freeDeadLeases(db: Db): void {
  const owners = db.all<{ lease_owner: string }>(
    `SELECT lease_owner FROM sends WHERE lease_owner IS NOT NULL
      UNION SELECT lease_owner FROM cloud_calls WHERE lease_owner IS NOT NULL`,
  );
  for (const { lease_owner: owner } of owners) if (!isOwnerAlive(owner)) freeLeasesOf(db, owner);
}

/** @param owners a LIKE pattern */
export function freeLeasesOf(db: Db, owners: string): void {
  db.run(
    `UPDATE sends SET lease_owner = NULL, lease_until = NULL, unknowns = unknowns + 1, unanswered = unanswered + 1
      WHERE lease_owner LIKE ?`,
    owners,
  );
  // A call may be made again in any case: nothing has to be remembered of it.
  db.run('UPDATE cloud_calls SET lease_owner = NULL, lease_until = NULL WHERE lease_owner LIKE ?', owners);
}
