import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { parseUsbPath } from '#src/core/usb-path.ts';
import { createRack, type RackOptions, type VirtualRack } from '#src/sim/virtual-rack.ts';
import { endOfAsync, expectCode, fuzz, mutated, textOf } from '../support/fuzz.ts';
import { tempFolder } from '../support/temp-folder.ts';
import { Host } from './sim-bench.ts';

let folder: ReturnType<typeof tempFolder>;
/** The files of a rack of two devices, by name. */
let good: ReadonlyMap<string, Buffer>;
beforeAll(async () => {
  folder = tempFolder();
  const rack = await rackIn(folder.file('good'), { count: 2 });
  await rack.close();
  const names = readdirSync(folder.file('good'));
  good = new Map(names.map(name => [name, readFileSync(join(folder.file('good'), name))]));
});
afterAll(() => folder[Symbol.dispose]());

async function rackIn(stateDir: string, options: Partial<RackOptions> = {}): Promise<VirtualRack> {
  return await createRack({ count: 1, hubs: 1, writeMs: 0, keys: 'blank', stateDir, ...options });
}

/** The state of a rack with `changed` laid over it; null: the file is not there. What no rack made stays as it is. */
async function check(changed: Readonly<Record<string, Uint8Array | 'folder' | null>>): Promise<void> {
  const stateDir = folder.file('state');
  rmSync(stateDir, { recursive: true, force: true });
  mkdirSync(stateDir);
  for (const [name, bytes] of Object.entries({ ...Object.fromEntries(good), ...changed })) {
    if (bytes === 'folder') mkdirSync(join(stateDir, name));
    else if (bytes) writeFileSync(join(stateDir, name), bytes);
  }
  const names = readdirSync(stateDir);
  const end = await endOfAsync(() => rackIn(stateDir));
  if ('fault' in end) {
    expectCode(end.fault, 'SIM_STATE_INVALID');
    expect(readdirSync(stateDir)).toEqual(names);
    return;
  }
  const found = await worksWith(end.value);
  const again = await rackIn(stateDir, { count: found.length });
  expect(await worksWith(again)).toEqual(found);
}

/** Every device can be asked for its DCT. @returns what the devices are */
async function worksWith(rack: VirtualRack): Promise<unknown[]> {
  for (const { photon } of rack.devices) {
    const host = new Host(photon);
    expect(await host.select(1)).toBe('ok');
    expect(await host.read(0, 4096)).toHaveLength(4096);
  }
  await rack.close();
  return rack.devices.map(({ index, busId, deviceId, photon }) => {
    expect([parseUsbPath(busId), parseDeviceId(deviceId)]).toEqual([busId, deviceId]);
    return [index, busId, deviceId, photon.identity];
  });
}

const DEVICE = {
  index: 1,
  busId: '1-1.1',
  deviceId: '0123456789abcdef01234567',
  platform: 'p1',
  bootloader: 'old',
  serialCase: 'lower',
};
const listOf = (devices: unknown): Buffer =>
  Buffer.from(JSON.stringify({ format: 'photon-fleet sim rack', version: 1, devices }));

test('a list of devices of any text makes a rack that can be found again, or is SIM_STATE_INVALID', async () => {
  const tokens = [
    '"index"',
    '"electron"',
    '"old"',
    'null',
    '1e3',
    '-1',
    '[]',
    '{}',
    ',',
    '"1-1"',
    '"1-1.1"',
    '"__proto__":',
    '\0',
    '1.5',
  ];
  const lists = fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes)) },
    { weight: 1, arbitrary: textOf(tokens, 10).map(text => Buffer.from(text)) },
    { weight: 4, arbitrary: mutated(good.get('rack.json')!, tokens) },
    { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 3 }).map(listOf) },
    {
      weight: 4,
      arbitrary: fc
        .tuple(
          fc.constantFrom(...Object.keys(DEVICE)),
          fc.oneof(
            fc.jsonValue({ maxDepth: 1 }),
            fc.constantFrom(' 9999-1 ', '3-7.1.1', 'rack:1/1-1', 9999, 'electron', 'p1', DEVICE.deviceId.toUpperCase()),
          ),
        )
        .map(([name, value]) => listOf([{ ...DEVICE, [name]: value }])),
    },
    {
      weight: 2,
      arbitrary: fc
        .array(fc.record({ index: fc.constantFrom(1, 2, 9999), busId: fc.constantFrom('1-1.1', ' 1-1.1', '1-1.2') }))
        .map(places => listOf(places.map(place => ({ ...DEVICE, ...place })))),
    },
  );
  await fuzz(lists, 250, list => check({ 'rack.json': list }));
});

test('sectors of any bytes make a rack that can be read and found again, or are SIM_STATE_INVALID', async () => {
  const names = [...good.keys()].filter(name => name !== 'rack.json');
  const sector = fc.oneof(
    { weight: 1, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 20 }) },
    { weight: 2, arbitrary: fc.nat({ max: 255 }).map(byte => Buffer.alloc(0x4000, byte)) },
    {
      weight: 4,
      arbitrary: fc
        .constantFrom(...names)
        .chain(name => mutated(good.get(name)!))
        .map(bytes => fitted(bytes, 0x4000)),
    },
  );
  const others = ['0001-serial-00001000.bin', '0002-internal-00000000.bin'];
  const changed = fc.dictionary(fc.constantFrom(...names, ...others), sector, { minKeys: 1, maxKeys: 3 });
  await fuzz(changed, 250, check);
  const parts = fc.constantFrom(0x0802_0000, 0x0806_0000).chain(start => {
    const header = Buffer.alloc(24);
    header.writeUInt32LE(start, 0);
    header.writeUInt32LE(start + 0x3000, 4);
    header.set([6, 0, 4, 1], 12);
    return fc.tuple(fc.constant(`0001-internal-${start.toString(16).padStart(8, '0')}.bin`), mutated(header));
  });
  await fuzz(parts, 80, ([name, header]) => check({ [name]: fitted(header, 0x2_0000) }));
});

function fitted(bytes: Buffer, length: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(length)]).subarray(0, length);
}

test('files with any other name are SIM_STATE_INVALID, or go where a killed process left them', async () => {
  const name = fc.oneof(
    fc.stringMatching(/^[0-9a-z.-]{1,20}$/).filter(text => !/^\.{1,2}$/.test(text)),
    mutated(Buffer.from('0001-internal-08004000.bin'))
      .map(bytes => bytes.toString('latin1'))
      .filter(text => /^[^/\0]{1,100}$/.test(text) && !/^\.{1,2}$/.test(text)),
    fc.constantFrom('0003-serial-00000000.bin', 'rack.json.7.tmp', '__proto__', 'constructor.tmp'),
  );
  const thing = fc.constantFrom(Buffer.from('x'), 'folder' as const);
  await fuzz(fc.tuple(name, thing), 150, ([text, what]) => check({ [text]: what }));
});
