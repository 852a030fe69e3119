import type { DeviceSettled, RunSummary } from '../core/events.ts';
import { OUTCOMES } from '../core/outcomes.ts';
import { bold, colourOf, seconds } from './terminal.ts';

/** The end of a run in a few lines: the totals, what failed by code with its hint, and what to do next. */
export function recap(summary: RunSummary, devices: readonly DeviceSettled[], next: readonly string[]): string[] {
  const counts = OUTCOMES.filter(outcome => summary[outcome] > 0 || outcome === 'pass').map(outcome =>
    colourOf(outcome)(`${summary[outcome]} ${outcome}`),
  );
  const lines = [
    '',
    `${bold(`run ${summary.run}`)}: ${summary.rows} ${summary.rows === 1 ? 'row' : 'rows'}, ${counts.join(', ')} in ${seconds(summary.durationMs)}`,
  ];
  if (summary.cloudPending > 0) {
    lines.push(
      `${summary.cloudPending} ${summary.cloudPending === 1 ? 'key waits' : 'keys wait'} for the cloud: \`photon-fleet replay\` sends them`,
    );
  }
  for (const [code, { count, hint }] of byCode(devices)) lines.push(`  ${count} × ${code}: ${hint}`);
  if (next.length > 0) lines.push('', ...next);
  return lines;
}

function byCode(devices: readonly DeviceSettled[]): Map<string, { count: number; hint: string }> {
  const codes = new Map<string, { count: number; hint: string }>();
  for (const { code, hint } of devices) {
    if (code === null) continue;
    const entry = codes.get(code) ?? { count: 0, hint: hint ?? '' };
    codes.set(code, { ...entry, count: entry.count + 1 });
  }
  return codes;
}
