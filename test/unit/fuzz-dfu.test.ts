import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseStatus, REQUEST, type RequestName } from '#src/dfu/codec.ts';
import { decodeString, parseDevice, readDescriptors, type DfuDescriptors } from '#src/dfu/descriptors.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { parseMemoryMap, runAt } from '#src/dfu/memory-map.ts';
import { decodeStringDescriptor } from '#src/usb/usb-descriptors.ts';
import { endOfAsync, expectCode, fuzz, mutated, textOf } from '../support/fuzz.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { GOOD_DESCRIPTORS, ScriptedPort, statusBytes, type Script } from '../support/scripted-port.ts';

const PHOTON = '@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg';
/** The last 256 bytes of all. */
const TOP = '@x/0xffffff00/01*256 a';
const MAP_TOKENS = [
  '@',
  'Flash',
  '/',
  '0x08000000',
  '0xffffffff',
  '0X0',
  ',',
  '*',
  '01',
  '9999',
  '0',
  'K',
  'M',
  'B',
  ' ',
  'a',
  'g',
  'h',
  '\n',
  '\0',
  '/0x0/1*1a',
  '4096*1Mg',
];

test('a memory map of any text is a few runs of sectors within 4 GB, or none', async () => {
  const texts = fc.oneof(
    textOf(MAP_TOKENS, 20).map(text => `@${text}`),
    textOf(MAP_TOKENS, 20).map(text => `@x/0x0/${text}`),
    fc
      .constantFrom(PHOTON, TOP)
      .chain(text => mutated(Buffer.from(text), MAP_TOKENS).map(bytes => bytes.toString('latin1'))),
    fc.string({ unit: 'binary', maxLength: 40 }),
  );
  await fuzz(texts, 1200, text => {
    const map = parseMemoryMap(text);
    if (map === null) return;
    expect(map.sectors.length >= 1 && map.sectors.length <= 64).toBe(true);
    const outside = map.sectors.filter(
      ({ address, count, sizeBytes }) =>
        ![address, count, sizeBytes].every(Number.isSafeInteger) ||
        !(address >= 0 && count > 0 && sizeBytes > 0 && address + count * sizeBytes <= 2 ** 32) ||
        !runAt(map, address),
    );
    expect(outside).toEqual([]);
  });
});

test('a status of any bytes has its numbers within their bits, or is none', async () => {
  const answers = fc.oneof(fc.uint8Array({ maxLength: 8 }), fc.uint8Array({ minLength: 6, maxLength: 6 }));
  await fuzz(answers, 500, bytes => {
    const status = parseStatus(bytes);
    expect(status === null).toBe(bytes.length !== 6);
    if (status === null) return;
    expect(status).toEqual({ status: bytes[0], pollTimeoutMs: Buffer.from(bytes).readUIntLE(1, 3), state: bytes[4] });
  });
});

test('a string descriptor of any bytes is a text, or none', async () => {
  const strings = fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc.uint8Array({ maxLength: 255 }).map(units => Buffer.from([units.length + 2, 3, ...units])),
    mutated(GOOD_DESCRIPTORS[0x306]!),
  );
  await fuzz(strings, 1000, bytes => {
    for (const text of [decodeString(bytes), decodeStringDescriptor(bytes)]) {
      if (text === null) continue;
      expect(text.isWellFormed()).toBe(true);
      expect(text.length).toBeLessThanOrEqual(126);
    }
  });
});

test('a device descriptor of any bytes is one of 18, or none', async () => {
  await fuzz(fc.oneof(fc.uint8Array({ maxLength: 20 }), mutated(GOOD_DESCRIPTORS[0x100]!)), 500, bytes => {
    const device = parseDevice(bytes);
    if (device === null) return;
    expect([...bytes.subarray(0, 2)]).toEqual([18, 1]);
    for (const number of Object.values(device)) expect(number >= 0 && number <= 0xffff).toBe(true);
  });
});

/** Descriptors of a device in DFU mode, some of them changed, stalled, or something else altogether. */
const descriptors: fc.Arbitrary<NonNullable<Script['descriptors']>> = fc
  .tuple(
    ...Object.entries(GOOD_DESCRIPTORS).map(([value, good]) =>
      fc
        .oneof(
          { weight: 4, arbitrary: fc.constant(good) },
          { weight: 4, arbitrary: mutated(good!) },
          fc.uint8Array({ maxLength: 512 }),
          fc.constant(null),
        )
        .map(bytes => [value, bytes] as const),
    ),
  )
  .map(pairs => Object.fromEntries(pairs));

function expectDescriptors(read: DfuDescriptors): void {
  for (const number of [read.vendorId, read.productId, read.release, read.transferSize, read.dfuVersion]) {
    expect(Number.isInteger(number) && number >= 0 && number <= 0xffff).toBe(true);
  }
  expect(read.alternates.length >= 1 && read.alternates.length <= 16).toBe(true);
  for (const text of [read.serialNumber ?? '', ...read.alternates.map(({ name }) => name)]) {
    expect(text.isWellFormed() && text.length <= 126).toBe(true);
  }
}

test('a device whose descriptors are any bytes is told what it is, or DESCRIPTOR_INVALID', async () => {
  await fuzz(descriptors, 1500, async changed => {
    const end = await endOfAsync(() => readDescriptors(new ScriptedPort({ descriptors: changed })));
    if ('value' in end) expectDescriptors(end.value);
    else expectCode(end.fault, 'DESCRIPTOR_INVALID');
  });
});

const STATES = fc.constantFrom(2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 0, 255);
const answer = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(STATES, fc.constantFrom(0, 1, 500, 0xff_ffff), fc.constantFrom(0, 0, 0, 14))
      .map(each => statusBytes(...each)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 12 }) },
  { weight: 1, arbitrary: fc.constant('stall' as const) },
  { weight: 4, arbitrary: fc.constant(null) },
);

test('a device that answers anything at all ends each act well or as a fault, after a bounded number of requests', async () => {
  const acts = fc.array(fc.constantFrom('toIdle', 'read', 'writeBlock', 'leave', 'recover'), {
    minLength: 1,
    maxLength: 4,
  });
  const conversation = fc.record({ acts, answers: fc.array(answer, { maxLength: 30 }) });
  await fuzz(conversation, 2500, async ({ acts: wanted, answers }) => {
    let asked = 0;
    let isShort = false;
    // The answers in their order, and again from the first one; null: as a good device does.
    const say = (name: RequestName) => (_: unknown, length: number) => {
      const next = answers.length > 0 ? answers[asked % answers.length] : null;
      asked += 1;
      if (name === 'UPLOAD' && next instanceof Uint8Array && next.length !== length) isShort = true;
      return next ?? new Uint8Array(length);
    };
    const names = Object.keys(REQUEST) as RequestName[];
    const port = new ScriptedPort({ on: Object.fromEntries(names.map(name => [name, say(name)])) });
    const clock = new QuickClock();
    const device = await DfuDevice.open(port, clock);
    const begun = clock.monotonicMs();
    for (const act of wanted) {
      isShort = false;
      const end = await endOfAsync(async () => {
        if (act === 'toIdle') await device.toIdle();
        if (act === 'read') return await device.read(1, 0, 5000);
        if (act === 'writeBlock') await device.writeBlock(1, 0, new Uint8Array(100));
        if (act === 'leave') await device.leave();
        if (act === 'recover') await device.recover();
        return null;
      });
      if ('value' in end && end.value) expect([end.value.length, isShort]).toEqual([5000, false]);
    }
    await device.close();
    expect(asked).toBeLessThan(100 * wanted.length);
    expect(clock.monotonicMs() - begun).toBeLessThan(120_000 * wanted.length);
    expect(port.opened).toBe(false);
  });
});
