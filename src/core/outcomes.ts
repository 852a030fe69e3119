/**
 * What became of a row. `pass`: done and proven. `fail`: the device is bad. `error`: the station is (cabling,
 * permissions, the manifest, the disk). `refused`: the cloud said no. `aborted`: interrupted before anything was
 * written. `skipped`: settled earlier, or left out on purpose. `unseen`: it never appeared on a bus.
 */
export const OUTCOMES = ['pass', 'fail', 'error', 'refused', 'aborted', 'skipped', 'unseen'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Where the cloud stands with a row's newest key. */
export const CLOUD_STATES = ['accepted', 'pending', 'refused', 'none'] as const;
export type CloudState = (typeof CLOUD_STATES)[number];

/** What a device has against it: attempts that it ended badly, since it last passed or a hand released it. */
export interface Failures {
  readonly count: number;
  /** Of the newest one. */
  readonly code: string | null;
  /** The sockets in which it failed. */
  readonly paths: readonly string[];
  /** No run works on it any more, until a hand releases it. */
  readonly quarantined: boolean;
}

/** A row that a crash left unsettled although nothing is left to do on its device: it is settled from the record. */
export interface Finished {
  /** `refused`: the old key was put back. Its doubt about what the cloud holds is in `uncertain`. */
  readonly outcome: Extract<Outcome, 'pass' | 'refused'>;
  readonly uncertain: boolean;
  /** Why, where it was the cloud's handshake that refused. */
  readonly proofRefused?: string | undefined;
  readonly fingerprint: string | null;
  readonly cloud: CloudState;
}

/** Outcomes after which a plain `run` leaves a row alone; every other row is worked on again. */
export function isSettled(outcome: Outcome | null): boolean {
  return outcome === 'pass' || outcome === 'fail' || outcome === 'refused';
}
