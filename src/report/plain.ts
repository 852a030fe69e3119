import type { DeviceSettled, RunObserver } from '../core/events.ts';
import { printable } from '../core/printable.ts';
import { deviceLines } from './device-line.ts';
import { recap } from './recap.ts';
import type { Output } from './terminal.ts';

export interface RunReportOptions {
  readonly verbose: boolean;
  /** Lines that name the next command, for the end. */
  readonly next: (devices: readonly DeviceSettled[]) => readonly string[];
}

/** A run as plain lines: a row a line as it settles, talk beside it. */
export function plainReport(out: Output, options: RunReportOptions): RunObserver {
  const devices: DeviceSettled[] = [];
  return event => {
    switch (event.type) {
      case 'run-started':
        out.talk(
          `run ${event.run}${event.resumed ? ' (resumed)' : ''}: job ${event.job}, ${event.rows} ${event.rows === 1 ? 'row' : 'rows'} of ${printable(event.manifest)}`,
        );
        return;
      case 'step':
        if (options.verbose) out.talk(`${event.deviceId}  ${event.path}  ${event.step}`);
        return;
      case 'device':
        devices.push(event);
        for (const line of deviceLines(event)) out.result(line);
        return;
      case 'stranger':
        out.talk(strangerLine(event));
        return;
      case 'note':
        out.talk(`note: ${printable(event.message, 400)}${event.hint ? `\nhint: ${event.hint}` : ''}`);
        return;
      case 'summary':
        for (const line of recap(event, devices, options.next(devices))) out.result(line);
    }
  };
}

export function strangerLine(event: {
  path: string;
  deviceId: string | null;
  code: string | null;
  message: string;
}): string {
  const who = event.deviceId ?? 'a device';
  return `note: ${event.path}: ${who}: ${event.code ? `${event.code}: ` : ''}${printable(event.message)}`;
}
