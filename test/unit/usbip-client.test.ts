import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { serveRack } from '#src/sim/usbip-server.ts';
import { createRack } from '#src/sim/virtual-rack.ts';
import type { UsbBus } from '#src/usb/port.ts';
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
import { LISTED } from '../support/listed-device.ts';
import { dfu, ManualClock, until } from './sim-bench.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A server that does with each connection what the test says. */
async function fakeServer(
  serve: (socket: Socket) => void,
): Promise<{ port: number; server: Server; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server = createServer(socket => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.resume();
    socket.on('close', () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return { port: (server.address() as { port: number }).port, server, sockets };
}

function busAt(port: number, clock?: ManualClock): UsbBus {
  const bus = rackBus({ host: '127.0.0.1', port, ...(clock ? { clock } : {}) });
  closers.push(() => bus.close());
  return bus;
}

type Command = SubmitCommand | UnlinkCommand;

/**
 * A usbipd with one device, that takes its configuration as a Photon does and leaves all else to the test.
 * @param options.imports what imports are answered with, one after the other; 0 when they are through
 * @param options.configured how SET_CONFIGURATION is answered; null: not at all
 */
function usbipd(
  onCommand: (command: Command, socket: Socket) => void,
  options: { imports?: number[]; configured?: number | null } = {},
) {
  const { imports = [], configured = 0 } = options;
  return (socket: Socket): void => {
    const arrived = new WireBuffer();
    let imported = false;
    socket.on('data', piece => {
      arrived.push(piece);
      if (!imported) {
        const operation = arrived.take(takeOperation);
        if (!operation) return;
        if (operation.kind === 'list') {
          socket.end(encodeListReply([LISTED]));
          return;
        }
        const status = imports.shift() ?? 0;
        imported = status === 0;
        const reply = encodeImportReply(status, imported ? LISTED : null);
        if (imported) socket.write(reply);
        else socket.end(reply);
        return;
      }
      for (let command = arrived.take(takeCommand); command; command = arrived.take(takeCommand)) {
        const configures = command.kind === 'submit' && command.setup.requestType === 0 && command.setup.request === 9;
        if (!configures) onCommand(command, socket);
        else if (configured !== null) answer(socket, command, new Uint8Array(0), configured);
      }
    });
  };
}

function answer(socket: Socket, { sequence }: Command, data: Uint8Array, status = 0): void {
  socket.write(encodeSubmitReply({ sequence, status, actualLength: data.length, data }));
}

async function openPort(bus: UsbBus) {
  const [port] = await bus.list();
  await port!.open();
  await port!.claimInterface(0);
  return port!;
}

describe('a list from a rack', () => {
  test('gives paths behind the address of the rack, and leaves no connection', async () => {
    const { port, sockets } = await fakeServer(usbipd(() => undefined));
    const bus = busAt(port);
    for (let n = 0; n < 3; n += 1) {
      const [device] = await bus.list();
      expect(device).toMatchObject({
        path: `127.0.0.1:${port}/1-2.3`,
        hub: `127.0.0.1:${port}/1-2`,
        serialNumber: undefined,
        instance: '1:9',
      });
    }
    await until(() => sockets.size === 0);
  });

  test('nobody listens: RACK_UNREACHABLE', async () => {
    const { port, server } = await fakeServer(() => undefined);
    server.close();
    await once(server, 'close');
    await expect(rackBus({ host: '127.0.0.1', port }).list()).rejects.toMatchObject({ code: 'RACK_UNREACHABLE' });
    closers.length = 0;
  });

  test('a server that says nothing for 5 s is RACK_UNREACHABLE, and hung up on', async () => {
    const clock = new ManualClock();
    const { port, sockets } = await fakeServer(() => undefined);
    const list = expect(busAt(port, clock).list()).rejects.toMatchObject({
      code: 'RACK_UNREACHABLE',
      message: `rack 127.0.0.1:${port}: no answer in 5000 ms`,
    });
    await until(() => sockets.size === 1);
    await clock.advance(5000);
    await list;
    await until(() => sockets.size === 0);
    expect(clock.sleeping).toBe(0);
  });

  test('a server that hangs up is RACK_UNREACHABLE', async () => {
    const { port } = await fakeServer(socket => socket.destroy());
    await expect(busAt(port).list()).rejects.toMatchObject({ code: 'RACK_UNREACHABLE' });
  });

  test('a server of something else is RACK_PROTOCOL', async () => {
    const { port } = await fakeServer(socket => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await expect(busAt(port).list()).rejects.toMatchObject({
      code: 'RACK_PROTOCOL',
      message: `rack 127.0.0.1:${port}: version 0x4854, where 0x0111 is spoken`,
    });
  });
});

describe('an import', () => {
  test('asks the device for nothing, and leaves its serial number to whoever wants it', async () => {
    const asked: Command[] = [];
    const { port } = await fakeServer(usbipd(command => asked.push(command)));
    expect((await openPort(busAt(port))).serialNumber).toBeUndefined();
    expect(asked).toEqual([]);
  });

  test('of a device that refuses its configuration is USB_STALL', async () => {
    const { port, sockets } = await fakeServer(usbipd(() => undefined, { configured: -32 }));
    const [device] = await busAt(port).list();
    await expect(device!.open()).rejects.toMatchObject({ code: 'USB_STALL', facts: { request: 'setConfiguration' } });
    await until(() => sockets.size === 0);
  });

  test('that is refused as busy is tried again', async () => {
    const clock = new ManualClock();
    const { port } = await fakeServer(usbipd(() => undefined, { imports: [2, 1] }));
    const bus = busAt(port, clock);
    const [device] = await bus.list();
    const opening = device!.open();
    while (!device!.opened) await clock.advance(100);
    await opening;
  });

  test('that is refused as busy for 2 s is USB_BUSY', async () => {
    const clock = new ManualClock();
    const { port, sockets } = await fakeServer(usbipd(() => undefined, { imports: Array<number>(99).fill(2) }));
    const [device] = await busAt(port, clock).list();
    const ends: number[] = [];
    const begun = clock.monotonicMs();
    const opening = device!.open().finally(() => ends.push(clock.monotonicMs()));
    const refused = expect(opening).rejects.toMatchObject({ code: 'USB_BUSY' });
    while (ends.length === 0) await clock.advance(100);
    await refused;
    expect(clock.monotonicMs() - begun).toBeGreaterThanOrEqual(2000);
    await until(() => sockets.size === 0);
  });

  test.each([
    [4, 'USB_GONE'],
    [5, 'USB_IO'],
  ])('that is refused with status %i is %s', async (status, code) => {
    const { port } = await fakeServer(usbipd(() => undefined, { imports: [status] }));
    const [device] = await busAt(port).list();
    await expect(device!.open()).rejects.toMatchObject({ code });
  });

  test('whose device does not take its configuration times out, and can be closed before that', async () => {
    const clock = new ManualClock();
    const { port, sockets } = await fakeServer(usbipd(() => undefined, { configured: null }));
    const [device] = await busAt(port, clock).list();
    const timedOut = expect(device!.open()).rejects.toMatchObject({
      code: 'USB_TIMEOUT',
      facts: { request: 'setConfiguration', timeoutMs: 5000 },
    });
    // Three waits: for the list, for the import, for the configuration.
    await until(() => clock.sleeps === 3);
    await clock.advance(5000);
    await timedOut;
    await until(() => sockets.size === 0);

    const cut = expect(device!.open()).rejects.toMatchObject({ code: 'USB_IO' });
    await until(() => clock.sleeps === 5);
    await device!.close();
    await cut;
    expect(device!.opened).toBe(false);
  });

  test('whose device never describes itself times out when it is asked to', async () => {
    const clock = new ManualClock();
    const rack = await createRack({
      count: 1,
      hubs: 1,
      writeMs: 0,
      keys: 'blank',
      faults: [parseFault('*:hang:descriptor')],
    });
    const server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
    closers.push(async () => {
      await server.close();
      await rack.close();
    });
    const [device] = await busAt(server.port, clock).list();
    const timedOut = expect(DfuDevice.open(device!, clock)).rejects.toMatchObject({
      code: 'USB_TIMEOUT',
      facts: { request: 'getDescriptor', timeoutMs: 5000 },
    });
    // Four waits: for the list, for the import, for the configuration, for the descriptors.
    await until(() => clock.sleeps === 4);
    await clock.advance(5000);
    await timedOut;
    await until(() => !rack.devices[0]!.held);
  });
});

describe('transfers', () => {
  test('a timeout unlinks the URB, and its late answer is dropped', async () => {
    const clock = new ManualClock();
    const seen: Command[] = [];
    const { port } = await fakeServer(
      usbipd((command, socket) => {
        seen.push(command);
        if (command.kind === 'unlink') {
          // It had already been answered: the answer comes first, then the word that there was nothing to unlink.
          answer(socket, seen[0]!, Buffer.from('late'));
          socket.write(encodeUnlinkReply({ sequence: command.sequence, status: 0 }));
        } else if (seen.length > 1) answer(socket, command, Buffer.from('mine'));
      }),
    );
    const device = await openPort(busAt(port, clock));
    const first = expect(device.controlTransferIn(dfu(3), 6, 700)).rejects.toMatchObject({
      code: 'USB_TIMEOUT',
      message: `127.0.0.1:${port}/1-2.3: no answer to DFU GETSTATUS in 700 ms`,
      facts: { path: device.path, request: 'DFU GETSTATUS', timeoutMs: 700 },
    });
    await until(() => seen.length === 1);
    await clock.advance(700);
    await first;
    const second = await device.controlTransferIn(dfu(3), 6, 700);
    expect(second).toEqual({ status: 'ok', data: new Uint8Array(Buffer.from('mine')) });
    expect(seen.map(({ kind }) => kind)).toEqual(['submit', 'unlink', 'submit']);
    expect((seen[1] as UnlinkCommand).victim).toBe(seen[0]!.sequence);
    expect(clock.sleeping).toBe(0);
  });

  test('answers in any order find their transfers', async () => {
    const waiting: SubmitCommand[] = [];
    const { port } = await fakeServer(
      usbipd((command, socket) => {
        if (command.kind === 'submit') waiting.push(command);
        if (waiting.length < 3) return;
        for (const each of waiting.reverse()) answer(socket, each, Uint8Array.of(each.setup.value));
      }),
    );
    const device = await openPort(busAt(port));
    const results = await Promise.all([1, 2, 3].map(value => device.controlTransferIn(dfu(2, value), 8, 5000)));
    expect(results.map(result => result.status === 'ok' && result.data[0])).toEqual([1, 2, 3]);
  });

  test.each([
    [-19, 'USB_GONE'],
    [-108, 'USB_GONE'],
    [-71, 'USB_IO'],
  ])('errno %i is %s', async (errno, code) => {
    const { port } = await fakeServer(usbipd((command, socket) => answer(socket, command, new Uint8Array(0), errno)));
    const device = await openPort(busAt(port));
    await expect(device.controlTransferIn(dfu(3), 6, 5000)).rejects.toMatchObject({ code });
  });

  test('errno -32 is a stall', async () => {
    const { port } = await fakeServer(usbipd((command, socket) => answer(socket, command, new Uint8Array(0), -32)));
    const device = await openPort(busAt(port));
    expect(await device.controlTransferIn(dfu(3), 6, 5000)).toEqual({ status: 'stall' });
  });

  test('an answer that was never asked for ends the connection as RACK_PROTOCOL', async () => {
    const { port, sockets } = await fakeServer(
      usbipd((_, socket) => {
        socket.write(encodeSubmitReply({ sequence: 4711, status: 0, actualLength: 0, data: new Uint8Array(0) }));
      }),
    );
    const device = await openPort(busAt(port));
    await expect(device.controlTransferIn(dfu(3), 6, 5000)).rejects.toMatchObject({ code: 'RACK_PROTOCOL' });
    await until(() => sockets.size === 0);
  });

  test('a connection that is lost is USB_GONE for all that was in flight, and tells the listeners of the bus', async () => {
    const { port } = await fakeServer(usbipd((_, socket) => socket.destroy()));
    const bus = busAt(port);
    let changes = 0;
    bus.onChange(() => (changes += 1));
    const device = await openPort(bus);
    const results = await Promise.allSettled([
      device.controlTransferIn(dfu(3), 6, 5000),
      device.controlTransferIn(dfu(5), 1, 5000),
    ]);
    expect(results).toMatchObject([{ reason: { code: 'USB_GONE' } }, { reason: { code: 'USB_GONE' } }]);
    expect(changes).toBe(1);
  });

  test('closing the bus closes what is open', async () => {
    const { port, sockets } = await fakeServer(usbipd(() => undefined));
    const bus = busAt(port);
    const device = await openPort(bus);
    await bus.close();
    expect(device.opened).toBe(false);
    await until(() => sockets.size === 0);
  });
});
