import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readDescriptors } from '#src/dfu/descriptors.ts';
import { serveRack, type RackServer } from '#src/sim/usbip-server.ts';
import { createRack, type VirtualRack } from '#src/sim/virtual-rack.ts';
import { setupPacket, type SetupPacket } from '#src/usb/setup-packet.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { encodeSubmit, encodeUnlink } from '#src/usb/usbip-codec.ts';
import { encodeImportRequest, encodeListRequest } from '#src/usb/usbip-operations.ts';
import { cuts, fuzz, GET_DESCRIPTOR, inPieces, mutated } from '../support/fuzz.ts';
import { dfu, standard, until } from './sim-bench.ts';

const BUS_ID = '1-1.1';

let rack: VirtualRack;
let server: RackServer;
beforeAll(async () => {
  rack = await createRack({ count: 1, hubs: 1, writeMs: 0, leaveMs: 0, keys: 'blank' });
  server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await server.close();
  await rack.close();
});

type Leaving = 'at once' | 'half closed' | 'when it is quiet';

/** Says all of it, in pieces, and leaves: at once, or when everything has been answered that will be. */
async function visit(bytes: Buffer, parts: readonly number[], leaving: Leaving): Promise<void> {
  const socket = connect({ host: server.host, port: server.port, noDelay: true });
  socket.on('error', () => undefined);
  const closed = once(socket, 'close');
  await once(socket, 'connect');
  for (const piece of inPieces(bytes, parts)) socket.write(piece);
  socket.resume();
  if (leaving === 'at once') socket.destroy();
  if (leaving === 'half closed') socket.end();
  if (leaving === 'when it is quiet') socket.setTimeout(20, () => socket.destroy());
  await closed;
}

/**
 * The device is put back into its socket, whatever was done to it, and answers the next one as if nothing was. One that
 * left at once may be heard only now, and hold the device for a moment more.
 */
async function expectServed(): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    await until(() => !rack.device(BUS_ID).held);
    rack.unplug(BUS_ID);
    rack.plug(BUS_ID);
    const bus = rackBus(server);
    try {
      const [port, ...more] = await bus.list();
      expect([port?.path, ...more]).toEqual([`${server.host}:${server.port}/${BUS_ID}`]);
      await port!.open();
      await port!.claimInterface(0);
      const { serialNumber } = await readDescriptors(port!);
      expect(serialNumber).toMatch(/^[0-9A-F]{24}$/);
      expect(await port!.controlTransferIn(dfu(5), 1, 5000)).toEqual({ status: 'ok', data: Uint8Array.of(2) });
      return;
    } catch (thrown) {
      if (tries === 10) throw thrown;
    } finally {
      await bus.close();
    }
  }
}

/** Stands for the number of the device, which is another one each time that it is plugged in. */
const DEVICE_NUMBER = 0x7e57_c0de;

function numbered(frames: Buffer): Buffer {
  const text = Buffer.alloc(4);
  text.writeUInt32BE(DEVICE_NUMBER);
  for (let at = frames.indexOf(text); at >= 0; at = frames.indexOf(text, at)) {
    frames.writeUInt32BE((1 << 16) | rack.device(BUS_ID).appearance, at);
  }
  return frames;
}

const IMPORT = encodeImportRequest(BUS_ID);

/** A setup packet: any, or one that the device knows, with lengths that may not fit. */
const setups: fc.Arbitrary<SetupPacket> = fc.oneof(
  fc.record({
    requestType: fc.nat({ max: 255 }),
    request: fc.nat({ max: 12 }),
    value: fc.constantFrom(0, 1, 2, 3, 0x100, 0x200, 0x303, 0x307, 0xffff),
    index: fc.constantFrom(0, 1, 0x409, 0xffff),
    length: fc.constantFrom(0, 1, 5, 6, 255, 4096, 4097, 0xffff),
  }),
  fc
    .tuple(fc.nat({ max: 6 }), fc.constantFrom(0, 1, 2, 3, 5, 0xffff), fc.constantFrom(0, 1, 5, 6, 100, 4096, 4097))
    .map(([request, value, length]) =>
      setupPacket(dfu(request, value), request === 2 || request === 3 || request === 5 ? 'in' : 'out', length),
    ),
  fc.constant(GET_DESCRIPTOR),
  fc
    .constantFrom(0, 1, 2)
    .map(alternate => setupPacket({ ...standard(11, alternate), recipient: 'interface' }, 'out', 0)),
);

const COMMANDS = [
  Buffer.from([0x21, 0, 0, 0, 0]),
  Buffer.from([0x21, 0xff, 0x3f, 0, 0]),
  Buffer.from([0x21, 0x80, 0x22, 0, 0]),
  Buffer.from([0x21, 0, 0, 2, 8]),
  Buffer.from([0x41, 0, 0, 0x0a, 8]),
  Buffer.from([0x41, 0, 0, 6, 8]),
  Buffer.from([0x21, 0xff, 0xff, 0x0f, 8]),
];

interface Urb {
  readonly sequence: number;
  readonly setup: SetupPacket;
  readonly command: number;
  readonly fits: boolean;
  readonly unlink: boolean;
}

const urbs: fc.Arbitrary<Urb> = fc.record({
  sequence: fc.oneof({ weight: 9, arbitrary: fc.nat({ max: 0xffff_ffff }) }, fc.constant(1)),
  setup: setups,
  command: fc.nat({ max: COMMANDS.length }),
  fits: fc.integer({ min: 0, max: 9 }).map(n => n > 0),
  unlink: fc.integer({ min: 0, max: 9 }).map(n => n === 0),
});

function frameOf({ sequence, setup, command, fits, unlink }: Urb): Buffer {
  if (unlink) return encodeUnlink({ sequence, deviceNumber: DEVICE_NUMBER, victim: 1 });
  const direction = (setup.requestType & 0x80) !== 0 ? 'in' : 'out';
  const known = direction === 'out' && setup.length === 5 ? COMMANDS[command] : undefined;
  const data = known ?? Buffer.alloc(direction === 'out' ? setup.length : 0, 0x5a);
  const length = direction === 'in' ? setup.length : data.length;
  const frame = encodeSubmit({ sequence, deviceNumber: DEVICE_NUMBER, direction, endpoint: 0, length, setup, data });
  // The other direction, or another length than that of the setup packet.
  if (!fits) frame.writeUInt32BE(sequence % 2 === 0 ? 1 : 0, 12);
  return frame;
}

/** What a host does with a device: a memory, a command, a block, what became of them, and the bytes back. */
const work: fc.Arbitrary<Urb[]> = fc
  .record({
    first: fc.nat({ max: 0xffff_0000 }),
    alternate: fc.constantFrom(0, 1),
    command: fc.nat({ max: COMMANDS.length - 1 }),
    block: fc.constantFrom(0, 1, 2, 3),
    length: fc.constantFrom(1, 5, 100, 4096, 4097),
  })
  .map(({ first, alternate, command, block, length }) => {
    const out = (request: number, value: number, bytes: number) => setupPacket(dfu(request, value), 'out', bytes);
    const status = setupPacket(dfu(3), 'in', 6);
    const select = setupPacket({ ...standard(11, alternate), recipient: 'interface' }, 'out', 0);
    const upload = setupPacket(dfu(2, block), 'in', length);
    const write = [out(1, 0, 5), status, status, out(1, block, length), status, status, out(6, 0, 0)];
    return [select, ...write, upload, out(6, 0, 0)].map((setup, n) => ({
      sequence: first + n,
      setup,
      command,
      fits: true,
      unlink: false,
    }));
  });

const transfers: fc.Arbitrary<Urb[]> = fc
  .array(fc.oneof({ weight: 3, arbitrary: urbs.map(urb => [urb]) }, { weight: 1, arbitrary: work }), {
    minLength: 1,
    maxLength: 8,
  })
  .map(groups => groups.flat());

const leaves = fc.constantFrom<Leaving>('at once', 'half closed', 'when it is quiet', 'when it is quiet');

test('a client that says anything at all first is answered or hung up on, and the next one is served', async () => {
  const first = fc.oneof(
    fc.uint8Array({ maxLength: 100 }).map(bytes => Buffer.from(bytes)),
    mutated(encodeListRequest()),
    mutated(IMPORT),
    fc.constantFrom(Buffer.concat([IMPORT, IMPORT]), encodeListRequest(), Buffer.concat([encodeListRequest(), IMPORT])),
  );
  await fuzz(fc.tuple(first, cuts, leaves), 120, async ([bytes, parts, how]) => {
    await visit(bytes, parts, how);
    await expectServed();
  });
});

test('a client that imports a device and sends it any transfers is answered or hung up on, and the next one is served', async () => {
  await fuzz(fc.tuple(transfers, cuts, leaves), 200, async ([frames, parts, how]) => {
    await visit(Buffer.concat([IMPORT, numbered(Buffer.concat(frames.map(frameOf)))]), parts, how);
    await expectServed();
  });
});

test('a client whose frames have some bytes changed is answered or hung up on, and the next one is served', async () => {
  const stream = transfers.chain(frames => mutated(Buffer.concat(frames.map(frameOf))));
  await fuzz(fc.tuple(stream, cuts, leaves), 200, async ([bytes, parts, how]) => {
    await visit(Buffer.concat([IMPORT, numbered(Buffer.from(bytes))]), parts, how);
    await expectServed();
  });
});
