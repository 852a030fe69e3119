import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { open, readdir, readFile, writeFile, type FileHandle } from 'node:fs/promises';
import type { RackDevice } from '#src/sim/rack-device.ts';
import type { VirtualRack } from '#src/sim/virtual-rack.ts';
import { STANDARD, isIn, type SetupPacket } from '#src/usb/setup-packet.ts';
import { until } from './until.ts';
import { kernelDevices } from './vhci.ts';

/*
 * Sockets of the xHCI controller that QEMU emulates. What this program writes to the virtio port `redirN` goes to QEMU's
 * device `usb-redir` N (boot-vm.sh), which shows a USB device to the kernel. Other than with vhci there is a host
 * controller with a driver of its own, and a device hears what becomes of its port: vhci keeps a reset to itself.
 * The protocol is usbredir's (usbredirproto.h), of which a device with endpoint 0 alone needs little.
 */

const MESSAGE = {
  hello: 0,
  connect: 1,
  disconnect: 2,
  reset: 3,
  interfaceInfo: 4,
  endpointInfo: 5,
  setConfiguration: 6,
  configurationStatus: 8,
  setAlternate: 9,
  getAlternate: 10,
  alternateStatus: 11,
  cancel: 21,
  control: 100,
} as const;

const STATUS = { ok: 0, cancelled: 1, gone: 3, stall: 4 } as const satisfies Record<Reply['kind'], number>;

const FULL_SPEED = 1;
/** What QEMU wants of a peer behind xHCI: release in `connect`, packet sizes, long numbers of messages and lengths. */
const CAPABILITIES = (1 << 1) | (1 << 4) | (1 << 5) | (1 << 6);
/** Type and length, 32 bits each, and a number of 64 bits; in the hello, before the capabilities are known, of 32. */
const HEADER_BYTES = 16;
const HELLO_HEADER_BYTES = 12;
const ENDPOINTS = 32;
const NO_ENDPOINT = 255;
const NOTHING = Buffer.alloc(0);

type Reply = Awaited<ReturnType<RackDevice['photon']['control']>>;

/** A device of a virtual rack in a socket of the controller, on whose bus it is whenever it is on that of the rack. */
export class XhciSocket {
  readonly device: RackDevice;
  readonly path: string;
  /** Hears no reset, like a processor that has stopped for good. */
  deaf = false;
  readonly #port: FileHandle;
  readonly #reader: ChildProcess;
  readonly #pending = new Map<bigint, AbortController>();
  readonly #stopWatching: () => void;
  #arrived = NOTHING;
  #greeted = false;
  #appearance: number | null = null;
  #sent: Promise<unknown> = Promise.resolve();

  static async of(nth: 1 | 2, rack: VirtualRack, device: RackDevice): Promise<XhciSocket> {
    const port = await open(`/dev/${await virtioPort(`redir${nth}`)}`, 'r+');
    const socket = new XhciSocket(port, rack, device, `${await busNumber()}-${nth}`);
    await socket.#greet(`/run/photon-fleet-redir${nth}`);
    socket.#follow();
    return socket;
  }

  private constructor(port: FileHandle, rack: VirtualRack, device: RackDevice, path: string) {
    this.#port = port;
    this.device = device;
    this.path = path;
    // A read of this process that waits for ever would keep it from ending.
    this.#reader = spawn('cat', { stdio: [port.fd, 'pipe', 'inherit'] });
    this.#reader.stdout?.on('data', (piece: Buffer) => this.#receive(piece));
    this.#stopWatching = rack.onChange(() => this.#follow());
  }

  /** Resolves when the kernel has found the device. */
  async found(): Promise<void> {
    await until(`a device at ${this.path}`, async () => (await kernelDevices()).some(({ path }) => path === this.path));
  }

  /** Unplugs the device; resolves when the kernel has let go of it. */
  async close(): Promise<void> {
    this.#stopWatching();
    this.#disconnect();
    await this.#sent;
    await until(`no device at ${this.path}`, () => !existsSync(`/sys/bus/usb/devices/${this.path}`));
    this.#reader.kill('SIGKILL');
    await once(this.#reader, 'exit');
    await this.#port.close();
  }

  #follow(): void {
    const { onBus, appearance } = this.device;
    if (!onBus || appearance !== this.#appearance) this.#disconnect();
    if (onBus && this.#appearance === null) this.#connect();
  }

  /** QEMU keeps to the first hello of its life, which is the machine's. */
  async #greet(marker: string): Promise<void> {
    if (!existsSync(marker)) {
      const hello = Buffer.alloc(HELLO_HEADER_BYTES + 68);
      hello.writeUInt32LE(68, 4);
      hello.write('photon-fleet', HELLO_HEADER_BYTES);
      hello.writeUInt32LE(CAPABILITIES, HELLO_HEADER_BYTES + 64);
      await this.#port.writeFile(hello);
      await until('hello from QEMU', () => this.#take(HELLO_HEADER_BYTES) !== null);
      await writeFile(marker, '');
    }
    this.#greeted = true;
  }

  #connect(): void {
    this.#appearance = this.device.appearance;
    const endpoints = Buffer.alloc(5 * ENDPOINTS);
    endpoints.fill(NO_ENDPOINT, 0, ENDPOINTS);
    // Endpoint 0 in both directions: its type, and below the three tables of bytes its packet size.
    for (const control of [0, 16]) {
      endpoints.writeUInt8(0, control);
      endpoints.writeUInt16LE(64, 3 * ENDPOINTS + 2 * control);
    }
    this.#send(MESSAGE.endpointInfo, 0n, endpoints);
    const interfaces = Buffer.alloc(4 + 4 * ENDPOINTS);
    interfaces.writeUInt32LE(1, 0);
    for (const [table, value] of [0, 0xfe, 1, 2].entries()) interfaces.writeUInt8(value, 4 + table * ENDPOINTS);
    this.#send(MESSAGE.interfaceInfo, 0n, interfaces);
    const connect = Buffer.alloc(10);
    connect.writeUInt8(FULL_SPEED, 0);
    connect.writeUInt16LE(0x2b04, 4);
    connect.writeUInt16LE(0xd006, 6);
    connect.writeUInt16LE(this.device.photon.identity.release, 8);
    this.#send(MESSAGE.connect, 0n, connect);
  }

  #disconnect(): void {
    if (this.#appearance === null) return;
    this.#appearance = null;
    this.#send(MESSAGE.disconnect, 0n, NOTHING);
  }

  #receive(piece: Buffer): void {
    this.#arrived = Buffer.concat([this.#arrived, piece]);
    if (!this.#greeted) return;
    for (let message = this.#take(HEADER_BYTES); message; message = this.#take(HEADER_BYTES)) {
      const body = message.subarray(HEADER_BYTES);
      void this.#obey(message.readUInt32LE(0), message.readBigUInt64LE(8), body);
    }
  }

  /** @returns the next message, header included, or null until it is all there */
  #take(headerBytes: number): Buffer | null {
    if (this.#arrived.length < headerBytes) return null;
    const end = headerBytes + this.#arrived.readUInt32LE(4);
    if (this.#arrived.length < end) return null;
    const message = this.#arrived.subarray(0, end);
    this.#arrived = this.#arrived.subarray(end);
    return message;
  }

  async #obey(type: number, id: bigint, body: Buffer): Promise<void> {
    switch (type) {
      case MESSAGE.reset:
        if (!this.deaf) await this.device.photon.busReset();
        break;
      case MESSAGE.cancel:
        this.#pending.get(id)?.abort();
        break;
      case MESSAGE.control: {
        const setup = {
          request: body.readUInt8(1),
          requestType: body.readUInt8(2),
          value: body.readUInt16LE(4),
          index: body.readUInt16LE(6),
          length: body.readUInt16LE(8),
        };
        const reply = await this.#ask(id, setup, body.subarray(10));
        const data = reply.kind === 'ok' && isIn(setup) ? reply.data : NOTHING;
        const answer = Buffer.concat([body.subarray(0, 10), data]);
        answer.writeUInt8(STATUS[reply.kind], 3);
        if (isIn(setup)) answer.writeUInt16LE(data.length, 8);
        this.#send(MESSAGE.control, id, answer);
        break;
      }
      // QEMU has taken these from the host controller's control transfers.
      case MESSAGE.setConfiguration: {
        const value = body.readUInt8(0);
        const setup = { requestType: 0x00, request: STANDARD.setConfiguration, value, index: 0, length: 0 };
        const reply = await this.#ask(id, setup, NOTHING);
        this.#send(MESSAGE.configurationStatus, id, Buffer.of(STATUS[reply.kind], value));
        break;
      }
      case MESSAGE.setAlternate: {
        const [index, value] = [body.readUInt8(0), body.readUInt8(1)];
        const setup = { requestType: 0x01, request: STANDARD.setInterface, value, index, length: 0 };
        const reply = await this.#ask(id, setup, NOTHING);
        this.#send(MESSAGE.alternateStatus, id, Buffer.of(STATUS[reply.kind], index, value));
        break;
      }
      case MESSAGE.getAlternate: {
        const index = body.readUInt8(0);
        const setup = { requestType: 0x81, request: STANDARD.getInterface, value: 0, index, length: 1 };
        const reply = await this.#ask(id, setup, NOTHING);
        const value = reply.kind === 'ok' ? (reply.data[0] ?? 0) : 0;
        this.#send(MESSAGE.alternateStatus, id, Buffer.of(STATUS[reply.kind], index, value));
        break;
      }
      default:
        throw new Error(`QEMU sends a message of type ${type}, which is not expected`);
    }
  }

  async #ask(id: bigint, setup: SetupPacket, data: Uint8Array): Promise<Reply> {
    const cancel = new AbortController();
    this.#pending.set(id, cancel);
    try {
      return await this.device.photon.control(setup, data, cancel.signal);
    } finally {
      this.#pending.delete(id);
    }
  }

  #send(type: number, id: bigint, body: Uint8Array): void {
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(type, 0);
    header.writeUInt32LE(body.length, 4);
    header.writeBigUInt64LE(id, 8);
    const message = Buffer.concat([header, body]);
    this.#sent = this.#sent.then(() => this.#port.writeFile(message));
  }
}

/** @returns the character device of a virtio port */
async function virtioPort(wanted: string): Promise<string> {
  const folder = '/sys/class/virtio-ports';
  for (const port of await readdir(folder)) {
    const name = await readFile(`${folder}/${port}/name`, 'utf8').catch(() => '');
    if (name.trim() === wanted) return port;
  }
  throw new Error(`this machine has no virtio port ${wanted}`);
}

/** The controller's bus for devices that are not super-speed. */
async function busNumber(): Promise<string> {
  const driver = '/sys/bus/pci/drivers/xhci_hcd';
  for (const controller of await readdir(driver)) {
    if (!/^[0-9a-f:.]+$/.test(controller)) continue;
    for (const name of await readdir(`${driver}/${controller}`)) {
      const speed = /^usb\d+$/.test(name) ? await readFile(`${driver}/${controller}/${name}/speed`, 'utf8') : '';
      if (speed.trim() === '480') return name.slice('usb'.length);
    }
  }
  throw new Error('this machine has no xHCI controller');
}
