import { dirname, resolve } from 'node:path';
import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import type { SlotName } from '../photon/modules.ts';
import { modulesIn } from './firmware-files.ts';
import type { WantedModule } from './firmware-files.ts';

/** Columns of a manifest in which a row names modules of its own; paths, from the manifest's folder. */
const COLUMNS: readonly (readonly [SlotName, string])[] = [
  ['system-part1', 'system_part1'],
  ['system-part2', 'system_part2'],
  ['user-part', 'user_part'],
];

/** As much of a row as is looked at. */
interface Row {
  readonly line: number;
  readonly deviceId: DeviceId;
  readonly extra: Readonly<Record<string, string>>;
}

/**
 * The modules of the rows that name some themselves: in place of those of the job for the same slots, and beside its others.
 * Each set of files is read and checked once.
 * @throws Fault FIRMWARE_INVALID
 */
export function rowFirmware(
  ofJob: readonly WantedModule[],
  rows: readonly Row[],
  manifest: string,
): Map<DeviceId, readonly WantedModule[]> {
  const known = new Map<string, readonly WantedModule[]>();
  const byDevice = new Map<DeviceId, readonly WantedModule[]>();
  for (const { line, deviceId, extra } of rows) {
    const own = COLUMNS.flatMap(([slot, column]) => {
      const named = extra[column]?.trim() ?? '';
      return named === '' ? [] : [[slot, resolve(dirname(manifest), named)] as const];
    });
    if (own.length === 0) continue;
    const files = new Map([...ofJob.map(({ slot, file }) => [slot, file] as const), ...own]);
    const name = JSON.stringify([...files]);
    let modules = known.get(name);
    if (!modules) {
      modules = checked(files, line);
      known.set(name, modules);
    }
    byDevice.set(deviceId, modules);
  }
  return byDevice;
}

function checked(files: ReadonlyMap<SlotName, string>, line: number): readonly WantedModule[] {
  try {
    return modulesIn(files);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const { code, message, hint } = error;
    throw new Fault(code, `line ${line} of the manifest: ${message}`, { hint, cause: error });
  }
}
