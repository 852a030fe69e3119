import { createLogUpdate } from 'log-update';
import type { DeviceSettled, RunEvent, RunObserver } from '../core/events.ts';
import type { Outcome } from '../core/outcomes.ts';
import { OUTCOMES } from '../core/outcomes.ts';
import { comparePaths, hubOf } from '../core/usb-path.ts';
import type { UsbPath } from '../core/usb-path.ts';
import { deviceLines } from './device-line.ts';
import { strangerLine } from './plain.ts';
import type { RunReportOptions } from './plain.ts';
import { recap } from './recap.ts';
import { bold, colourOf, dim, markOf } from './terminal.ts';
import type { Output } from './terminal.ts';

const REDRAW_EVERY_MS = 100;
const BAR_CELLS = 32;

/**
 * A run on a terminal: a bar, a cell a device on a line a hub, and how many are at which step; redrawn in place on
 * stderr. What failed stays above it as a line.
 */
export function liveReport(stream: NodeJS.WriteStream, out: Output, options: RunReportOptions): RunObserver {
  const draw = createLogUpdate(stream, { showCursor: true });
  const view = new LiveState();
  let timer: NodeJS.Timeout | undefined;
  const redraw = (): void => draw(view.lines(stream.columns).join('\n'));
  const above = (write: () => void): void => {
    draw.clear();
    write();
    redraw();
  };
  return event => {
    view.take(event);
    switch (event.type) {
      case 'run-started':
        timer = setInterval(redraw, REDRAW_EVERY_MS);
        timer.unref();
        return;
      case 'step':
        return;
      case 'device':
        if (event.outcome !== 'pass' && event.outcome !== 'skipped') {
          above(() => deviceLines(event).forEach(line => out.result(line)));
        }
        return;
      case 'stranger':
        above(() => out.talk(strangerLine(event)));
        return;
      case 'note':
        above(() => out.talk(`note: ${event.message}${event.hint ? `\nhint: ${event.hint}` : ''}`));
        return;
      case 'summary':
        clearInterval(timer);
        redraw();
        draw.done();
        for (const line of recap(event, view.devices, options.next(view.devices))) out.result(line);
    }
  };
}

/** What the view knows; its lines are made from it alone. */
export class LiveState {
  readonly devices: DeviceSettled[] = [];
  #title = '';
  #rows = 0;
  readonly #cells = new Map<UsbPath, Outcome | 'working'>();
  readonly #steps = new Map<UsbPath, string>();

  take(event: RunEvent): void {
    if (event.type === 'run-started') {
      this.#title = `${event.job}  run ${event.run}`;
      this.#rows = event.rows;
    } else if (event.type === 'step') {
      this.#cells.set(event.path, 'working');
      this.#steps.set(event.path, event.step);
    } else if (event.type === 'device') {
      this.devices.push(event);
      if (event.path) {
        this.#cells.set(event.path, event.outcome);
        this.#steps.delete(event.path);
      }
    }
  }

  lines(columns: number): string[] {
    const done = this.devices.length;
    const filled = this.#rows === 0 ? BAR_CELLS : Math.round((done / this.#rows) * BAR_CELLS);
    const bar = '█'.repeat(filled) + dim('░'.repeat(BAR_CELLS - filled));
    const counts = OUTCOMES.map(outcome => ({ outcome, n: this.devices.filter(d => d.outcome === outcome).length }))
      .filter(({ n }) => n > 0)
      .map(({ outcome, n }) => colourOf(outcome)(`${n} ${outcome}`));
    const pending = this.devices.filter(({ cloud }) => cloud === 'pending').length;
    if (pending > 0) counts.push(`${pending} cloud pending`);
    return [
      `${bold(this.#title)}  ${bar} ${done}/${this.#rows}`,
      ...this.#hubLines(columns),
      dim(this.#stepCounts()),
      counts.join('  '),
    ];
  }

  #hubLines(columns: number): string[] {
    const hubs = new Map<string, string[]>();
    for (const path of [...this.#cells.keys()].sort(comparePaths)) {
      const cells = hubs.get(hubOf(path)) ?? [];
      hubs.set(hubOf(path), cells);
      const state = this.#cells.get(path);
      cells.push(state === undefined || state === 'working' ? '●' : colourOf(state)(markOf(state)));
    }
    const width = Math.max(0, ...[...hubs.keys()].map(hub => hub.length));
    const room = Math.max(8, columns - width - 4);
    return [...hubs].map(([hub, cells]) => `  ${hub.padEnd(width)}  ${cells.slice(0, room).join('')}`);
  }

  #stepCounts(): string {
    const counts = new Map<string, number>();
    for (const step of this.#steps.values()) counts.set(step, (counts.get(step) ?? 0) + 1);
    return [...counts].map(([step, n]) => `${step} ${n}`).join('  ');
  }
}
