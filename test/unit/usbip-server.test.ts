import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { serveRack, type RackServer } from '#src/sim/usbip-server.ts';
import type { RackEvent } from '#src/sim/usbip-session.ts';
import { createRack, type VirtualRack } from '#src/sim/virtual-rack.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { setupPacket, type SetupPacket } from '#src/usb/setup-packet.ts';
import { encodeSubmit, encodeUnlink, takeReply, type SubmitReply, type UnlinkReply } from '#src/usb/usbip-codec.ts';
import { encodeImportRequest, encodeListRequest, takeImportReply, takeListReply } from '#src/usb/usbip-operations.ts';
import { WireBuffer } from '#src/usb/wire-buffer.ts';
import { dfu, standard, until } from './sim-bench.ts';

let rack: VirtualRack;
let server: RackServer;
let events: RackEvent[];
const sockets: Socket[] = [];
beforeEach(async () => {
  events = [];
  rack = await createRack({ count: 2, hubs: 2, writeMs: 50, keys: 'blank' });
  server = await serveRack(rack, { host: '127.0.0.1', port: 0, onEvent: event => events.push(event) });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server.close();
  await rack.close();
});

/** A client in the raw: bytes out, frames in. */
class Raw {
  readonly socket: Socket;
  readonly arrived = new WireBuffer();
  readonly replies: (SubmitReply | UnlinkReply)[] = [];
  closed = false;
  /** Bytes that IN transfers take, by sequence number. */
  readonly rooms = new Map<number, number>();
  number = 0;

  constructor() {
    this.socket = connect({ host: '127.0.0.1', port: server.port, noDelay: true });
    sockets.push(this.socket);
    this.socket.on('data', piece => this.arrived.push(piece));
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => (this.closed = true));
  }

  async import(busId: string): Promise<number> {
    this.socket.write(encodeImportRequest(busId));
    let reply = this.arrived.take(takeImportReply);
    while (!reply) {
      await once(this.socket, 'data');
      reply = this.arrived.take(takeImportReply);
    }
    this.number = reply.device ? ((reply.device.busNumber << 16) | reply.device.deviceNumber) >>> 0 : 0;
    return reply.status;
  }

  submit(
    sequence: number,
    setup: SetupPacket,
    data = new Uint8Array(0),
    more: { length?: number; endpoint?: number } = {},
  ) {
    const direction = (setup.requestType & 0x80) !== 0 ? 'in' : 'out';
    const length = more.length ?? setup.length;
    this.rooms.set(sequence, direction === 'in' ? length : 0);
    const { number: deviceNumber } = this;
    this.socket.write(
      encodeSubmit({ sequence, deviceNumber, direction, endpoint: more.endpoint ?? 0, length, setup, data }),
    );
  }

  unlink(sequence: number, victim: number): void {
    this.socket.write(encodeUnlink({ sequence, deviceNumber: this.number, victim }));
  }

  async reply(): Promise<SubmitReply | UnlinkReply> {
    for (;;) {
      const reply = this.arrived.take(bytes => takeReply(bytes, sequence => this.rooms.get(sequence)));
      if (reply) return reply;
      await once(this.socket, 'data');
    }
  }
}

const GET_STATUS = setupPacket(dfu(3), 'in', 6);

/** Brings the device into the midst of a write of 50 ms: its GETSTATUS is sequence number 9. */
async function startWrite(raw: Raw): Promise<void> {
  raw.submit(1, setupPacket({ ...standard(11, 1), recipient: 'interface' }, 'out', 0));
  raw.submit(2, setupPacket(dfu(1), 'out', 5), Uint8Array.of(0x21, 34, 0, 0, 0));
  raw.submit(3, GET_STATUS);
  raw.submit(4, GET_STATUS);
  raw.submit(5, setupPacket(dfu(1, 2), 'out', 3), Buffer.from('key'));
  for (let n = 1; n <= 5; n += 1) expect(await raw.reply()).toMatchObject({ sequence: n, status: 0 });
  raw.submit(9, GET_STATUS);
}

describe('a served rack', () => {
  test('lists its devices and ends the connection, as usbipd does', async () => {
    const raw = new Raw();
    raw.socket.write(encodeListRequest());
    await once(raw.socket, 'close');
    expect(raw.arrived.take(takeListReply)).toMatchObject([
      { busId: '1-1.1', speed: 2, vendorId: 0x2b04, productId: 0xd006, interfaces: [{ interfaceClass: 0xfe }] },
      { busId: '1-2.1' },
    ]);
    expect(events).toMatchObject([{ type: 'listed', devices: 2 }]);
  });

  test('refuses a second import with status 2, one of nothing with 4, and frees the device with the connection', async () => {
    const first = new Raw();
    expect(await first.import('1-1.1')).toBe(0);
    expect(await new Raw().import('1-1.1')).toBe(2);
    expect(await new Raw().import('1-9.9')).toBe(4);
    first.socket.destroy();
    await until(() => !rack.device('1-1.1').held);
    expect(await new Raw().import('1-1.1')).toBe(0);
    expect(events.map(({ type }) => type)).toEqual(['imported', 'refused', 'refused', 'released', 'imported']);
  });

  test('never answers with more than was asked for', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    const get = setupPacket(standard(6, 0x200), 'in', 255);
    raw.submit(1, get, undefined, { length: 9 });
    expect(await raw.reply()).toMatchObject({ status: 0, actualLength: 9, data: { length: 9 } });
  });

  test('stalls every endpoint but 0, and a transfer whose direction or length does not fit', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    raw.submit(1, GET_STATUS, undefined, { endpoint: 1 });
    raw.submit(2, setupPacket(dfu(1), 'out', 2), new Uint8Array(1), { length: 1 });
    expect(await raw.reply()).toMatchObject({ sequence: 1, status: -32 });
    expect(await raw.reply()).toMatchObject({ sequence: 2, status: -32 });
  });

  test('answers standard requests: configuration, status, feature, interface', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    const ask = async (request: number, length: number, value = 0, recipient: 'device' | 'interface' = 'device') => {
      const setup = { ...standard(request, value), recipient };
      raw.submit(7, setupPacket(setup, length > 0 ? 'in' : 'out', length));
      const reply = (await raw.reply()) as SubmitReply;
      return reply.status === 0 ? [...reply.data] : reply.status;
    };
    expect(await ask(8, 1)).toEqual([1]);
    expect(await ask(9, 0, 1)).toEqual([]);
    expect(await ask(0, 2)).toEqual([1, 0]);
    expect(await ask(1, 0)).toEqual([]);
    expect(await ask(11, 0, 1, 'interface')).toEqual([]);
    expect(await ask(10, 1, 0, 'interface')).toEqual([1]);
    expect(await ask(11, 0, 2, 'interface')).toBe(-32);
    expect(await ask(6, 10, 0x600)).toBe(-32);
    expect(await ask(9, 0, 2)).toBe(-32);
  });

  test('takes SET_FEATURE(PORT_RESET) as a reset of the device', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    raw.submit(1, setupPacket(dfu(4), 'out', 0));
    raw.submit(2, { requestType: 0x23, request: 3, value: 4, index: 1, length: 0 });
    raw.submit(3, setupPacket(dfu(5), 'in', 1));
    expect(await raw.reply()).toMatchObject({ sequence: 1, status: 0 });
    expect(await raw.reply()).toMatchObject({ sequence: 2, status: 0 });
    expect(await raw.reply()).toMatchObject({ sequence: 3, data: Uint8Array.of(2) });
  });

  test('answers the unlink of a pending URB with -104 and gives no other answer to it', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    await startWrite(raw);
    await until(() => rack.device('1-1.1').photon.dfuState === 4);
    raw.unlink(10, 9);
    expect(await raw.reply()).toEqual({ kind: 'retUnlink', sequence: 10, status: -104 });
    raw.submit(11, GET_STATUS);
    // The write went on, and the next status waited for it.
    expect(await raw.reply()).toMatchObject({ sequence: 11, status: 0, data: { 4: 5 } });
    expect(rack.device('1-1.1').photon.dctRewrites).toBe(1);
  });

  test('answers the unlink of one that was answered with 0', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    raw.submit(1, GET_STATUS);
    await raw.reply();
    raw.unlink(2, 1);
    expect(await raw.reply()).toEqual({ kind: 'retUnlink', sequence: 2, status: 0 });
  });

  test('goes on with a write when its connection is lost, and keeps the state of DFU', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    await startWrite(raw);
    const { photon } = rack.device('1-1.1');
    await until(() => photon.dfuState === 4);
    raw.socket.destroy();
    const next = new Raw();
    while ((await next.import('1-1.1')) !== 0) throw new Error('it was not freed');
    next.submit(1, setupPacket(dfu(5), 'in', 1));
    expect(await next.reply()).toMatchObject({ data: Uint8Array.of(3) });
    expect(photon.dctRewrites).toBe(1);
  });

  test('ends pending URBs with -108 and then the connection when the device vanishes', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    await startWrite(raw);
    await until(() => rack.device('1-1.1').photon.dfuState === 4);
    rack.unplug('1-1.1');
    expect(await raw.reply()).toMatchObject({ sequence: 9, status: -108 });
    await until(() => raw.closed);
  });

  test('ends the connection of a device that vanishes with nothing pending', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    rack.unplug('1-1.1');
    rack.plug('1-1.1');
    await until(() => raw.closed);
    expect(await new Raw().import('1-1.1')).toBe(0);
  });

  test('a port that is taken is PORT_IN_USE', async () => {
    await expect(serveRack(rack, { host: '127.0.0.1', port: server.port })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      facts: { port: server.port },
    });
  });
});

describe('a hostile client loses its connection, and nobody else notices', () => {
  afterEach(async () => {
    const bus = rackBus(server);
    expect(await bus.list()).toHaveLength(2);
    await bus.close();
  });

  test.each([
    ['another protocol', 'GET / HTTP/1.1\r\n\r\n'],
    ['another version', '\x01\x06\x80\x05\0\0\0\0'],
    ['an unknown operation', '\x01\x11\x80\x99\0\0\0\0'],
    ['a bus ID without an end', `\x01\x11\x80\x03\0\0\0\0${'A'.repeat(32)}`],
  ])('that speaks %s', async (_, text) => {
    const raw = new Raw();
    raw.socket.write(Buffer.from(text, 'latin1'));
    await until(() => raw.closed);
    expect(events).toMatchObject([{ type: 'protocol-error' }]);
  });

  test.each([
    ['a length of 4 GB', (frame: Buffer) => frame.writeUInt32BE(0xffff_ffff, 24)],
    ['the number of another device', (frame: Buffer) => frame.writeUInt32BE(7, 8)],
    ['isochronous packets', (frame: Buffer) => frame.writeUInt32BE(1000, 32)],
  ])('whose URB has %s', async (_, spoil) => {
    const raw = new Raw();
    await raw.import('1-1.1');
    const frame = encodeSubmit({
      sequence: 1,
      deviceNumber: raw.number,
      direction: 'in',
      endpoint: 0,
      length: 6,
      setup: GET_STATUS,
      data: new Uint8Array(0),
    });
    spoil(frame);
    raw.socket.write(frame);
    await until(() => raw.closed);
    await until(() => !rack.device('1-1.1').held);
  });

  test('that sends one sequence number twice, or too many URBs at once', async () => {
    const twice = new Raw();
    await twice.import('1-1.1');
    await startWrite(twice);
    twice.submit(9, GET_STATUS);
    await until(() => twice.closed);
    const many = new Raw();
    await many.import('1-2.1');
    await startWrite(many);
    for (let n = 100; n < 400; n += 1) many.submit(n, GET_STATUS);
    await until(() => many.closed);
    expect(events.filter(({ type }) => type === 'protocol-error')).toHaveLength(2);
  });

  test('that hangs up in the middle of a frame', async () => {
    const raw = new Raw();
    await raw.import('1-1.1');
    raw.socket.end(Buffer.alloc(20, 1));
    await until(() => raw.closed);
    await until(() => !rack.device('1-1.1').held);
  });
});

const usbip = (() => {
  try {
    return execFileSync('sh', ['-c', 'PATH="$PATH:/usr/sbin:/sbin" command -v usbip'], { encoding: 'utf8' }).trim();
  } catch {
    return null;
  }
})();

test.skipIf(usbip === null)("Debian's usbip lists the rack", async () => {
  const args = ['--tcp-port', String(server.port), 'list', '-r', '127.0.0.1'];
  const { stdout } = await promisify(execFile)(usbip ?? '', args);
  expect(stdout).toMatch(/1-1\.1: .*\(2b04:d006\)/);
  expect(stdout).toMatch(/1-2\.1: .*\(2b04:d006\)/);
  expect(stdout).toMatch(/fe\/01\/02/);
});
