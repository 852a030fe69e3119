import type { DeviceSettled, RunSummary } from '../core/events.ts';
import type { CloudState, Outcome } from '../core/outcomes.ts';
import { OUTCOMES } from '../core/outcomes.ts';

/** A row as it counts for the exit code: its latest outcome and where the cloud stands with it now. */
export interface Standing {
  readonly outcome: Outcome | null;
  readonly cloud: CloudState;
}

export type Totals = Readonly<Record<Outcome, number>>;

export function countOutcomes(devices: Iterable<Pick<DeviceSettled, 'outcome'>>): Totals {
  const totals = Object.fromEntries(OUTCOMES.map(outcome => [outcome, 0])) as Record<Outcome, number>;
  for (const { outcome } of devices) totals[outcome] += 1;
  return totals;
}

/**
 * From the latest outcome of every row, skipped ones included. Where several hold: 130 interrupted, 6 the token was
 * refused, 3 some devices failed, were refused or unseen, 4 sends pending, 0.
 */
export function exitCodeOf(
  standings: readonly Standing[],
  how: { interrupted: boolean; unauthorized: boolean },
): RunSummary['exitCode'] {
  if (how.interrupted) return 130;
  if (how.unauthorized) return 6;
  const bad = ({ outcome, cloud }: Standing): boolean =>
    cloud === 'refused' || (outcome !== null && outcome !== 'pass' && outcome !== 'skipped');
  if (standings.some(bad)) return 3;
  if (standings.some(({ cloud }) => cloud === 'pending')) return 4;
  return 0;
}
