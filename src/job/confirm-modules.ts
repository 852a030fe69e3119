import { Fault } from '../core/errors.ts';
import { slotNamed } from '../photon/modules.ts';
import type { WantedModule } from './firmware-files.ts';

/**
 * A second opinion on the files that are to be flashed: the vendor's own reader has to see the same module in each. It is
 * loaded only where there is one.
 * @throws Fault FIRMWARE_INVALID
 */
export async function confirmModules(modules: readonly WantedModule[]): Promise<void> {
  if (modules.length === 0) return;
  const { HalModuleParser } = (await import('binary-version-reader')).default;
  for (const { file, slot, bytes, header } of modules) {
    let read: Awaited<ReturnType<InstanceType<typeof HalModuleParser>['parseBuffer']>>;
    try {
      read = await new HalModuleParser().parseBuffer({ filename: file, fileBuffer: Buffer.from(bytes) });
    } catch (cause) {
      throw new Fault('FIRMWARE_INVALID', `${file}: the vendor's reader can't make it out`, { cause });
    }
    const { crc, prefixInfo: prefix } = read;
    const same =
      crc.ok &&
      prefix.prefixOffset === 0 &&
      Number.parseInt(prefix.moduleStartAddy, 16) === slotNamed(slot).address &&
      Number.parseInt(prefix.moduleEndAddy, 16) === header.end &&
      prefix.moduleVersion === header.version &&
      prefix.platformID === header.platformId &&
      prefix.moduleFunction === header.fn &&
      prefix.moduleIndex === header.index;
    if (!same) throw new Fault('FIRMWARE_INVALID', `${file}: the vendor's reader sees another module in it`);
  }
}
