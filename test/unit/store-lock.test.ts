import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { stationLockPath } from '#src/store/lock-path.ts';
import { takeLock } from '#src/store/station-lock.ts';
import { Store } from '#src/store/store.ts';
import { Child } from '../support/children.ts';
import { faultOf } from '../support/record-bench.ts';
import { modeOf, tempFolder } from '../support/temp-folder.ts';

let folder: ReturnType<typeof tempFolder>;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

const BUSY = 'another photon-fleet process works on this station';

describe('the lock of a station', () => {
  test('is held by one at a time, and is free again at once', () => {
    const path = folder.file('station.lock');
    const release = takeLock(path);
    expect(() => takeLock(path)).toThrow(expect.objectContaining({ code: 'STATION_BUSY', message: BUSY }));
    release();
    takeLock(path)();
    expect(modeOf(path)).toBe('600');
  });

  test('is free at once after its holder was killed', async () => {
    const path = folder.file('station.lock');
    await using child = new Child(
      `const { takeLock } = await import(dist + 'store/station-lock.js');
       globalThis.release = takeLock(argv[0]); // kept, or the collector would close it
       console.log('held');
       setInterval(() => undefined, 1e6);`,
      [path],
    );
    await child.printed(1);
    expect(() => takeLock(path)).toThrow(BUSY);
    await child.kill();
    takeLock(path)();
  });

  test('is for this user alone, though the file was there already', () => {
    const path = folder.file('station.lock');
    writeFileSync(path, '');
    chmodSync(path, 0o666);
    takeLock(path)();
    expect(modeOf(path)).toBe('600');
  });

  test('that can not be made says why', () => {
    const path = folder.file('no/station.lock');
    expect(() => takeLock(path)).toThrow(
      expect.objectContaining({ code: 'DB_UNREADABLE', message: `the lock ${path} can't be made (ENOENT)` }),
    );
  });

  test('may lie beside a database in a folder that is reached by a link', async () => {
    mkdirSync(folder.file('real'));
    symlinkSync(folder.file('real'), folder.file('link'));
    const path = folder.file('link/fleet.db');
    await using store = await Store.open({ path, create: true, locks: [`${path}.lock`] });
    expect(await store.call('pendingSends', null)).toBe(0);
  });
});

describe('a record that is opened for work', () => {
  test('holds its locks until it is closed, and is refused to a second one', async () => {
    const path = folder.file('fleet.db');
    const locks = [folder.file('station.lock'), `${path}.lock`];
    const store = await Store.open({ path, create: true, locks });
    expect(await faultOf(Store.open({ path, create: true, locks }))).toMatchObject({
      code: 'STATION_BUSY',
      message: BUSY,
    });
    await using reader = await Store.open({ path, create: false });
    expect(await reader.call('pendingSends', null)).toBe(0);
    await store.close();
    await (await Store.open({ path, create: true, locks })).close();
  });

  test('is refused where another database holds the station', async () => {
    const station = folder.file('station.lock');
    const [one, two] = [folder.file('one.db'), folder.file('two.db')];
    await using store = await Store.open({ path: one, create: true, locks: [station, `${one}.lock`] });
    const second = Store.open({ path: two, create: true, locks: [station, `${two}.lock`] });
    expect((await faultOf(second)).code).toBe('STATION_BUSY');
    expect(await store.call('pendingSends', null)).toBe(0);
  });

  test('that can not be opened gives its locks back', async () => {
    const lock = folder.file('station.lock');
    const path = folder.file('fleet.db');
    writeFileSync(path, 'no database');
    expect((await faultOf(Store.open({ path, create: true, locks: [lock] }))).code).toBe('DB_FOREIGN');
    takeLock(lock)();
  });
});

describe('where the lock of a station lies', () => {
  test("in the user's runtime folder, in one that nobody else may look into", () => {
    const path = stationLockPath({ XDG_RUNTIME_DIR: folder.path });
    expect(path).toBe(folder.file('photon-fleet/station.lock'));
    expect(modeOf(folder.file('photon-fleet'))).toBe('700');
    expect(stationLockPath({ XDG_RUNTIME_DIR: folder.path })).toBe(path);
  });

  test('not in a folder that somebody has laid a link in place of, nor where there is none', () => {
    mkdirSync(folder.file('elsewhere'));
    symlinkSync(folder.file('elsewhere'), folder.file('photon-fleet'));
    expect(() => stationLockPath({ XDG_RUNTIME_DIR: folder.path })).toThrow(
      expect.objectContaining({ code: 'DB_UNREADABLE', hint: 'set XDG_RUNTIME_DIR to a folder of your own' }),
    );
    writeFileSync(folder.file('file'), '');
    expect(() => stationLockPath({ XDG_RUNTIME_DIR: folder.file('file') })).toThrow(
      expect.objectContaining({ code: 'DB_UNREADABLE' }),
    );
  });
});
