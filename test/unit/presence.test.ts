import { renameSync, rmSync, symlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { UsbPath } from '#src/core/usb-path.ts';
import { devicesPresent, Seen } from '#src/usb/presence.ts';
import { tempFolder } from '../support/temp-folder.ts';

/** A folder like that of sysfs: a link for each root hub, device and interface. */
function busFolder() {
  const folder = tempFolder();
  return {
    path: folder.path,
    add: (...names: string[]) => {
      for (const name of names) {
        symlinkSync(`../../../devices/${name}`, folder.file(name));
        symlinkSync(`../../../devices/${name}/${name}:1.0`, folder.file(`${name}:1.0`));
      }
    },
    /** As long as it is being enumerated. */
    loseInterface: (name: string) => rmSync(folder.file(`${name}:1.0`)),
    remove: (name: string) => {
      rmSync(folder.file(name));
      rmSync(folder.file(`${name}:1.0`));
    },
    /** The device leaves and comes back: its entry is a new one. */
    comesBack: (name: string) => {
      symlinkSync('../../../devices/anew', folder.file('anew'));
      renameSync(folder.file('anew'), folder.file(name));
    },
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

const at = (path: string): { path: UsbPath } => ({ path: path as UsbPath });

describe('the devices that are present', () => {
  test('are those of the folder, without root hubs and interfaces', () => {
    using bus = busFolder();
    bus.add('usb1', '1-1', '1-1.4', '12-3.1.2');
    expect([...devicesPresent(bus.path)!.keys()].sort()).toEqual(['1-1', '1-1.4', '12-3.1.2']);
  });

  test('have another number when they come back', () => {
    using bus = busFolder();
    bus.add('1-1', '1-2');
    const before = devicesPresent(bus.path)!;
    bus.comesBack('1-2');
    const after = devicesPresent(bus.path)!;
    expect(after.get('1-1' as UsbPath)).toBe(before.get('1-1' as UsbPath));
    expect(after.get('1-2' as UsbPath)).not.toBe(before.get('1-2' as UsbPath));
  });

  test('can not be told while one of them is being enumerated', () => {
    using bus = busFolder();
    bus.add('1-1', '1-1.4', '1-1.41');
    bus.loseInterface('1-1.4');
    expect(devicesPresent(bus.path)).toBeNull();
  });

  test('can not be told where there is no such folder', () => {
    expect(devicesPresent('/nowhere')).toBeNull();
  });
});

describe('what a look found', () => {
  const present = (folder: { path: string }) => devicesPresent(folder.path);

  test('stands as long as all stay, the very ports', () => {
    using bus = busFolder();
    bus.add('1-1', '1-2');
    const ports = [at('1-1'), at('1-2')];
    const seen = new Seen<{ path: UsbPath }>();
    expect(seen.stillThere(present(bus))).toBeNull();
    seen.keep(ports, present(bus));
    const found = seen.stillThere(present(bus))!;
    expect(new Set(found)).toEqual(new Set(ports));
    expect(found.every(port => ports.includes(port))).toBe(true);
  });

  test('loses those that have left, and is of no use once somebody came', () => {
    using bus = busFolder();
    bus.add('1-1', '1-2');
    const seen = new Seen<{ path: UsbPath }>();
    seen.keep([at('1-1'), at('1-2')], present(bus));
    bus.remove('1-1');
    expect(seen.stillThere(present(bus))).toEqual([at('1-2')]);
    bus.add('1-3');
    expect(seen.stillThere(present(bus))).toBeNull();
    bus.remove('1-3');
    expect(seen.stillThere(present(bus))).toEqual([at('1-2')]);
    bus.comesBack('1-2');
    expect(seen.stillThere(present(bus))).toBeNull();
  });

  test('does not cover a device that was present, and that the look did not find', () => {
    using bus = busFolder();
    bus.add('1-1', '1-2');
    const seen = new Seen<{ path: UsbPath }>();
    seen.keep([at('1-1')], present(bus));
    expect(seen.stillThere(present(bus))).toBeNull();
  });

  test('nor one that came while it looked', () => {
    using bus = busFolder();
    bus.add('1-1');
    const before = present(bus);
    bus.add('1-2');
    const seen = new Seen<{ path: UsbPath }>();
    seen.keep([at('1-1'), at('1-2')], before);
    expect(seen.stillThere(present(bus))).toBeNull();
  });

  test('is nothing where nobody tells who is present', () => {
    const seen = new Seen<{ path: UsbPath }>();
    seen.keep([at('1-1')], null);
    expect(seen.stillThere(null)).toBeNull();
  });
});
