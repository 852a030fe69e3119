import { atMost, figureOf, under } from './figures.ts';
import type { Row } from './figures.ts';
import { runOnRack } from './rack-run.ts';

interface Comparison {
  readonly name: string;
  readonly many: { readonly devices: number; readonly hubs: number };
  readonly few: { readonly devices: number; readonly hubs: number };
  readonly prepared: boolean;
  readonly goal: number;
}

const ONE = { devices: 1, hubs: 1 };
const RACK = { devices: 60, hubs: 8 };
const FIFTEEN = { devices: 15, hubs: 15 };
const HALL = { devices: 120, hubs: 15 };

const COMPARISONS: readonly Comparison[] = [
  { name: 'c', many: RACK, few: ONE, prepared: true, goal: 1.5 },
  { name: 'd', many: HALL, few: FIFTEEN, prepared: true, goal: 1.6 },
  { name: 'c′', many: RACK, few: ONE, prepared: false, goal: 2.6 },
  { name: 'd′', many: HALL, few: FIFTEEN, prepared: false, goal: 2.8 },
];

/** c and d: how much longer many devices take than few. h: the memory of a run over 120. */
export async function benchRacks(rounds: number, wanted: (name: string) => boolean): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { name, many, few, prepared, goal } of COMPARISONS.filter(one => wanted(one.name))) {
    const [ratios, whole, peaks]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < rounds; round += 1) {
      const a = await runOnRack({ ...few, prepared, memory: name === 'd' });
      const b = await runOnRack({ ...many, prepared, memory: name === 'd' });
      ratios.push(b.durationMs / a.durationMs);
      whole.push(b.ran.wallMs / a.ran.wallMs);
      peaks.push(b.ran.peakMiB);
    }
    const keys = prepared ? 'keys made ahead' : 'keys made during the run';
    const what = `${many.devices} devices on ${many.hubs} hubs over ${few.devices}, after start-up, ${keys}`;
    rows.push({ name, what, figure: figureOf(ratios), goal: atMost(goal) });
    rows.push({ name: '', what: '… the same as whole processes', figure: figureOf(whole), goal: null });
    if (name === 'd') {
      rows.push({
        name: 'h',
        what: 'peak memory of `run` at 120 devices, MiB',
        figure: figureOf(peaks),
        goal: under(200),
      });
    }
  }
  return rows;
}
