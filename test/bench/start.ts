import { CLI } from '../support/cli.ts';
import { atMost, figureOf } from './figures.ts';
import type { Row } from './figures.ts';
import { expectCode, run } from './processes.ts';

/** g: what it takes to say hello, over what Node takes by itself. */
export async function benchStart(rounds: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const flag of ['--version', '--help']) {
    const ratios: number[] = [];
    for (let round = 0; round < rounds * 4 + 1; round += 1) {
      const ours = expectCode(await run(process.execPath, [CLI, flag]), 0);
      const bare = expectCode(await run(process.execPath, ['-e', '0']), 0);
      if (round > 0) ratios.push(ours.wallMs / bare.wallMs);
    }
    const what = `\`photon-fleet ${flag}\` over \`node -e 0\``;
    rows.push({ name: 'g', what, figure: figureOf(ratios), goal: atMost(2.5) });
  }
  return rows;
}
