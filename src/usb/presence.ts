import { lstatSync, readdirSync } from 'node:fs';
import { parseUsbPath } from '../core/usb-path.ts';
import type { UsbPath } from '../core/usb-path.ts';

/**
 * Which devices are on this host's bus, as Linux's sysfs has an entry for each. Nothing is asked of them, and nothing but the
 * folder is read: a thousandth of what it takes to look at what they are.
 * @returns the number of each entry, which is another when a device leaves and comes back; null where the system has none, or
 * where a device is still being enumerated: its interfaces come last, and what is known of it before is not all
 */
export function devicesPresent(folder = '/sys/bus/usb/devices'): ReadonlyMap<UsbPath, number> | null {
  const present = new Map<UsbPath, number>();
  try {
    const names = readdirSync(folder);
    const whole = new Set(names.filter(name => name.includes(':')).map(name => name.slice(0, name.indexOf(':'))));
    for (const name of names) {
      const path = parseUsbPath(name); // neither a root hub (`usb1`) nor an interface (`1-1.4:1.0`)
      if (path && !whole.has(path)) return null;
      const entry = path && lstatSync(`${folder}/${name}`, { throwIfNoEntry: false });
      if (entry) present.set(path, entry.ino);
    }
  } catch {
    return null;
  }
  return present;
}

/** What a look at the bus found, for as long as nothing comes: those of it that have stayed are what the next one would find. */
export class Seen<Port extends { readonly path: UsbPath }> {
  #seen = new Map<UsbPath, { readonly entry: number; readonly port: Port }>();

  /** @param present as it was before the look began; null where that can't be told */
  keep(ports: readonly Port[], present: ReadonlyMap<UsbPath, number> | null): void {
    this.#seen.clear();
    for (const port of ports) {
      const entry = present?.get(port.path);
      if (entry !== undefined) this.#seen.set(port.path, { entry, port });
    }
  }

  /** @returns null where somebody is present whom the look did not find */
  stillThere(present: ReadonlyMap<UsbPath, number> | null): Port[] | null {
    if (!present) return null;
    const ports: Port[] = [];
    for (const [path, entry] of present) {
      const seen = this.#seen.get(path);
      if (seen?.entry !== entry) return null;
      ports.push(seen.port);
    }
    return ports;
  }
}
