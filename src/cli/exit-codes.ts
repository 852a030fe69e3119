import type { FaultCode } from '../core/errors.ts';

/** What the process ends with. Where several hold for a run: 130, 6, 3, 4. */
export const EXIT = {
  /** All rows settled and accepted. */
  OK: 0,
  /** A bug. */
  BUG: 1,
  /** Usage, configuration or manifest wrong; nothing touched. */
  USAGE: 2,
  /** Finished, and some devices failed, were refused, in quarantine or unseen. */
  SOME_FAILED: 3,
  /** All devices done, sends pending. */
  PENDING: 4,
  /** Another process holds the station. */
  BUSY: 5,
  /** The cloud refused the token. */
  UNAUTHORIZED: 6,
  /** The record does not verify. */
  RECORD: 7,
  /** Ctrl-C. */
  INTERRUPTED: 130,
} as const;

/** The exit code of a command that could not do its work. */
export function exitCodeOfFault(code: FaultCode): number {
  switch (code) {
    case 'BUG':
      return EXIT.BUG;
    case 'STATION_BUSY':
      return EXIT.BUSY;
    case 'CLOUD_UNAUTHORIZED':
      return EXIT.UNAUTHORIZED;
    case 'RECORD_INVALID':
    case 'RECORD_JOURNAL':
    case 'RECORD_BEHIND':
    case 'CHECKPOINT_INVALID':
    case 'VAULT_SEALED_WRONG':
      return EXIT.RECORD;
    case 'DB_FAILED':
      return EXIT.SOME_FAILED; // cut short by a full or broken disk: some rows are not done
    default:
      return EXIT.USAGE;
  }
}
