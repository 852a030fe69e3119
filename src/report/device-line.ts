import type { DeviceSettled } from '../core/events.ts';
import { printable } from '../core/printable.ts';
import { colourOf, dim, seconds } from './terminal.ts';

/** One row as one line (two with a hint): `pass  0a10…  1-2.3  A-04  cloud accepted  1.20 s`. */
export function deviceLines(device: DeviceSettled): string[] {
  const { outcome, deviceId, path, name, code, message, hint, cloud, durationMs } = device;
  const parts = [colourOf(outcome)(outcome.padEnd(8)), deviceId, path ?? '-'];
  if (name) parts.push(printable(name, 40));
  if (outcome === 'pass') {
    if (cloud !== 'none') parts.push(`cloud ${cloud}`);
    parts.push(seconds(durationMs));
  }
  const head = parts.join('  ');
  const hintLine = hint ? [dim(`         hint: ${hint}`)] : [];
  if (code !== null) return [`${head}  ${code}: ${printable(message ?? '', 400)}`, ...hintLine];
  const isWorthSaying = message !== null && (outcome !== 'pass' || hint !== null);
  return [isWorthSaying ? `${head}  ${dim(printable(message))}` : head, ...hintLine];
}
