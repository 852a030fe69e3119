import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock, type Clock } from '#src/core/clock.ts';
import { parseUsbPath } from '#src/core/usb-path.ts';
import { readDescriptors } from '#src/dfu/descriptors.ts';
import { rackBus } from '#src/usb/usbip.ts';
import {
  encodeSubmitReply,
  encodeUnlinkReply,
  takeCommand,
  type SubmitCommand,
  type UnlinkCommand,
} from '#src/usb/usbip-codec.ts';
import { encodeImportReply, encodeListReply, takeOperation } from '#src/usb/usbip-operations.ts';
import { WireBuffer } from '#src/usb/wire-buffer.ts';
import { cuts, endOfAsync, expectCode, fuzz, inPieces, mutated } from '../support/fuzz.ts';
import { LISTED } from '../support/listed-device.ts';
import { dfu, until } from './sim-bench.ts';

/** What the server says: for each of its answers the bytes in place of the good ones, or null for those. */
interface Lies {
  readonly list: Buffer | null;
  readonly import: Buffer | null;
  /** Of URBs, in the order of their coming. */
  readonly replies: readonly (Lie | null)[];
  readonly cuts: readonly number[];
  readonly ending: 'stay' | 'end' | 'reset';
}

/** What becomes of a reply, which can't be known before its request has come: it bears its number. */
type Lie =
  | { readonly noise: Buffer }
  | { readonly at: number; readonly byte: number; readonly length: number }
  | { readonly at: number; readonly long: number };

function told(lie: Lie, good: Buffer): Buffer {
  if ('noise' in lie) return lie.noise;
  const copy = Buffer.from(good);
  if ('long' in lie) {
    copy.writeUInt32BE(lie.long, lie.at);
    return copy;
  }
  copy[lie.at % copy.length] = lie.byte;
  return Buffer.concat([copy, Buffer.alloc(20)]).subarray(0, lie.length);
}

let server: Server;
let lies: Lies;
const sockets = new Set<Socket>();
beforeAll(async () => {
  server = createServer({ noDelay: true }, serve);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(async () => {
  server.close();
  await once(server, 'close');
});

const DESCRIPTOR = Buffer.from('1201000200000040042b06d0500201020301', 'hex');
const SERIAL = Buffer.from([6, 3, 0x41, 0, 0x42, 0]);

function serve(socket: Socket): void {
  const { list, import: imported, replies, ending } = lies;
  const left = [...replies];
  const arrived = new WireBuffer();
  let carries = false;
  sockets.add(socket);
  socket.on('close', () => sockets.delete(socket));
  socket.on('error', () => undefined);
  const say = (bytes: Buffer): void => {
    for (const piece of inPieces(bytes, lies.cuts)) socket.write(piece);
  };
  const hangUp = (): void => {
    if (ending === 'end') socket.end();
    if (ending === 'reset') socket.resetAndDestroy();
  };
  socket.on('data', piece => {
    arrived.push(piece);
    if (!carries) {
      const operation = arrived.take(takeOperation);
      if (!operation) return;
      if (operation.kind === 'list') say(list ?? encodeListReply([LISTED]));
      else say(imported ?? encodeImportReply(0, LISTED));
      carries = operation.kind === 'import';
      if (operation.kind === 'list' ? list : imported) hangUp();
      return;
    }
    for (let command = arrived.take(takeCommand); command; command = arrived.take(takeCommand)) {
      const lie = left.shift();
      const good = goodReply(command);
      say(lie ? told(lie, good) : good);
      if (lie) hangUp();
    }
  });
}

function goodReply(command: SubmitCommand | UnlinkCommand): Buffer {
  const { sequence } = command;
  if (command.kind === 'unlink') return encodeUnlinkReply({ sequence, status: -104 });
  const wanted = { 0x100: DESCRIPTOR, 0x303: SERIAL }[command.setup.value] ?? Buffer.alloc(6);
  const data = command.direction === 'in' ? wanted.subarray(0, command.length) : Buffer.alloc(0);
  return encodeSubmitReply({ sequence, status: 0, actualLength: data.length, data });
}

const noise = fc.uint8Array({ maxLength: 400 }).map(bytes => Buffer.from(bytes));
const lie: fc.Arbitrary<Lie> = fc.oneof(
  fc.record({ noise }),
  fc.record({
    at: fc.nat({ max: 65 }),
    byte: fc.constantFrom(0, 1, 2, 3, 4, 0x7f, 0x80, 0xff),
    length: fc.nat({ max: 90 }),
  }),
  fc.record({
    at: fc.constantFrom(0, 4, 20, 24, 32),
    long: fc.constantFrom(0, 1, 4, 0xffff, 0x10001, 0x7fff_ffff, 0xffff_ff98, 0xffff_ffff),
  }),
);

const rest = { cuts, ending: fc.constantFrom('stay' as const, 'end' as const, 'reset' as const) };
/** Time that runs faster: the deadlines of 5 s are 50 ms here. */
const HASTE = 100;
const clock: Clock = {
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs() * HASTE,
  sleep: (ms, signal) => systemClock.sleep(ms / HASTE, signal),
  after: (ms, act) => systemClock.after(ms / HASTE, act),
};

/** Lists, opens the first device, and asks it things, as far as it gets; then nothing may be left. */
async function visit(): Promise<void> {
  const before = process.memoryUsage().arrayBuffers;
  const bus = rackBus({ host: '127.0.0.1', port: (server.address() as { port: number }).port, clock });
  const listed = await endOfAsync(() => bus.list());
  if ('fault' in listed) expectCode(listed.fault, 'RACK_UNREACHABLE', 'RACK_PROTOCOL');
  else {
    for (const { path, serialNumber } of listed.value) {
      expect(parseUsbPath(path)).toBe(path);
      expect(serialNumber).toBeUndefined();
    }
    const [port] = listed.value;
    const opened = port && (await endOfAsync(() => port.open()));
    if (opened && 'value' in opened) {
      expect(port.opened).toBe(true);
      const asked = await Promise.all([
        endOfAsync(() => port.claimInterface(0)),
        endOfAsync(() => port.controlTransferIn(dfu(3), 6, 3000)),
        endOfAsync(() => port.controlTransferOut(dfu(1, 2), Buffer.from('block'), 3000)),
        endOfAsync(() => port.selectAlternateInterface(0, 1)),
      ]);
      for (const end of asked)
        if ('fault' in end) expect(end.fault.code).toMatch(/^(USB_(GONE|TIMEOUT|IO|STALL)|RACK_PROTOCOL)$/);
      const described = await endOfAsync(() => readDescriptors(port));
      if ('value' in described) {
        const { serialNumber } = described.value;
        expect(serialNumber === null || serialNumber.isWellFormed()).toBe(true);
      } else expect(described.fault.code).toMatch(/^(USB_(GONE|TIMEOUT|IO)|DESCRIPTOR_INVALID|RACK_PROTOCOL)$/);
      const [, status] = asked;
      if ('value' in status && status.value.status === 'ok') expect(status.value.data.length).toBeLessThanOrEqual(6);
    } else if (opened) {
      expect(opened.fault.code).toMatch(/^(USB_(GONE|BUSY|TIMEOUT|IO|STALL)|RACK_(UNREACHABLE|PROTOCOL))$/);
      expect(port.opened).toBe(false);
    }
  }
  await bus.close();
  await until(() => sockets.size === 0);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32_000_000);
}

test('a rack that lists anything at all is believed as far as it makes sense, and left with a fault otherwise', async () => {
  const lists = fc.oneof(noise, mutated(encodeListReply([LISTED, { ...LISTED, busId: parseUsbPath('1-2.4')! }])));
  const all = fc.record({ list: lists, import: fc.constant(null), replies: fc.constant([]), ...rest });
  await fuzz(all, 150, async said => {
    lies = said;
    await visit();
  });
});

test('a rack that answers an import with anything at all gives a device, or a fault and no connection', async () => {
  const imports = fc.oneof(
    noise,
    mutated(encodeImportReply(0, LISTED)),
    fc.nat({ max: 9 }).map(status => encodeImportReply(status, null)),
  );
  const all = fc.record({ list: fc.constant(null), import: imports, replies: fc.constant([]), ...rest });
  await fuzz(all, 150, async said => {
    lies = said;
    await visit();
  });
});

test('a rack that answers transfers with anything at all ends each of them well or as a fault, in bounded time', async () => {
  const replies = fc.array(fc.option(lie, { freq: 2, nil: null }), { minLength: 1, maxLength: 8 });
  const all = fc.record({ list: fc.constant(null), import: fc.constant(null), replies, ...rest });
  await fuzz(all, 150, async said => {
    lies = said;
    await visit();
  });
});
