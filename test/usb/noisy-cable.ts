import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** From the kernel's Documentation/usb/usbip_protocol.rst: a header of 48 bytes before every URB. */
const HEADER_BYTES = 48;
const RET_SUBMIT = 3;
const EPROTO = -71;

/**
 * Lies between the kernel and a USB/IP server, and answers with noise from a given moment on, as a controller does while
 * a cable is being pulled.
 */
export class NoisyCable {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly #server: Server;
  readonly #ends = new Set<Socket>();
  #onNoise: (() => void) | null = null;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  static async before(rack: { host: string; port: number }): Promise<NoisyCable> {
    const server = createServer({ noDelay: true });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    const cable = new NoisyCable(server);
    server.on('connection', near => cable.#join(near, connect({ ...rack, noDelay: true })));
    return cable;
  }

  /** @param onNoise told of each URB that gets noise for an answer */
  becomeNoisy(onNoise: () => void = () => undefined): void {
    this.#onNoise = onNoise;
  }

  pull(): void {
    for (const end of this.#ends) end.destroy();
  }

  async close(): Promise<void> {
    this.pull();
    await new Promise<void>(resolve => this.#server.close(() => resolve()));
  }

  #join(near: Socket, far: Socket): void {
    for (const end of [near, far]) {
      this.#ends.add(end);
      end.on('error', () => undefined); // the close that follows says all
      end.on('close', () => this.pull());
    }
    far.on('data', piece => near.write(piece));
    // One URB is in flight here at a time, and so one piece is one command.
    near.on('data', piece => {
      if (!this.#onNoise) {
        far.write(piece);
        return;
      }
      const reply = Buffer.alloc(HEADER_BYTES);
      reply.writeUInt32BE(RET_SUBMIT, 0);
      piece.copy(reply, 4, 4, 8); // its sequence number
      reply.writeInt32BE(EPROTO, 20);
      near.write(reply);
      this.#onNoise();
    });
  }
}
