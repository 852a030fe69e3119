import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { DeviceId } from '../core/device-id.ts';
import { HANDSHAKE } from '../photon/handshake.ts';
import { makeRsa } from './photon-rsa.ts';
import { answerHello, readHello } from './server-handshake.ts';
import type { Hello } from './server-handshake.ts';
import type { FaultPlan, HandshakeFault } from './virtual-cloud-faults.ts';

export interface HandshakeOptions {
  /** 127.0.0.1 where it is left out. */
  readonly host?: string;
  /** 0, and where it is left out: any free one. */
  readonly port?: number;
}

/** Where devices connect to, and the public half of what they encrypt to. */
export interface HandshakeAddress {
  readonly host: string;
  readonly port: number;
  /** SPKI DER, 294 bytes. */
  readonly serverKey: Buffer;
  /** The same as `BEGIN PUBLIC KEY`. */
  readonly serverKeyPem: string;
}

export interface HandshakeParts {
  /** PEM of the newest key that the cloud was told; null: none. */
  readonly keyOnFile: (device: DeviceId) => string | null;
  readonly plan: () => FaultPlan;
  /** The device has proven its key and has been answered. */
  readonly onHandshake: (device: DeviceId) => void;
}

/** The cloud's handshake over TCP, with a server key of its own. Closes without a word on whoever it does not know. */
export class HandshakeServer {
  readonly address: HandshakeAddress;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(address: HandshakeAddress, server: Server, sockets: Set<Socket>) {
    this.address = address;
    this.#server = server;
    this.#sockets = sockets;
  }

  /** @throws what listening throws: EADDRINUSE and others */
  static async open(
    { host = '127.0.0.1', port = 0 }: HandshakeOptions,
    parts: HandshakeParts,
  ): Promise<HandshakeServer> {
    const { privateKey, publicKey } = await makeRsa(2048);
    const serverPrivate = createPrivateKey({ key: privateKey, format: 'der', type: 'pkcs1' });
    privateKey.fill(0);
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', () => undefined); // a device that has gone away is everyday
      talk(socket, serverPrivate, parts);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
    const serverKeyPem = createPublicKey({ key: publicKey, format: 'der', type: 'spki' }).export({
      format: 'pem',
      type: 'spki',
    });
    const bound = (server.address() as AddressInfo).port;
    return new HandshakeServer(
      { host, port: bound, serverKey: publicKey, serverKeyPem: serverKeyPem.toString() },
      server,
      sockets,
    );
  }

  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve())); // closed already is fine
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

function talk(socket: Socket, serverPrivate: KeyObject, { keyOnFile, plan, onHandshake }: HandshakeParts): void {
  const nonce = randomBytes(HANDSHAKE.NONCE);
  let said = Buffer.alloc(0);
  let answered = false;
  const isSilent = plan().greeting()?.kind === 'handshake-silent';
  socket.on('data', (chunk: Buffer) => {
    if (answered || isSilent) return;
    said = Buffer.concat([said, chunk.subarray(0, HANDSHAKE.HELLO - said.length)]);
    if (said.length < HANDSHAKE.HELLO) return;
    answered = true;
    const hello = readHello(said, serverPrivate);
    const key = hello && knownKey(hello, nonce, keyOnFile(hello.deviceId));
    const fault = plan().takeHandshake(hello?.deviceId ?? null);
    if (fault?.kind === 'handshake-silent') return;
    if (!hello || !key || fault?.kind === 'handshake-close') {
      socket.end();
      return;
    }
    socket.write(misanswer(answerHello(key, serverPrivate), key, fault));
    if (fault?.kind === 'handshake-short') socket.end();
    else if (fault === null) onHandshake(hello.deviceId);
  });
  socket.on('end', () => socket.end());
  if (!isSilent) socket.write(nonce);
}

/** SPKI DER of the key on file, if it is the one that the device says it has. */
function knownKey({ nonce, spki }: Hello, sent: Buffer, onFile: string | null): Buffer | null {
  if (onFile === null || !nonce.equals(sent)) return null;
  const known = createPublicKey(onFile).export({ format: 'der', type: 'spki' });
  return known.equals(spki) ? known : null;
}

let forger: KeyObject | undefined;

function misanswer(answer: Buffer, key: Buffer, fault: HandshakeFault | null): Buffer {
  switch (fault?.kind) {
    case 'handshake-short':
      return answer.subarray(0, HANDSHAKE.ANSWER / 2);
    case 'handshake-long':
      return Buffer.concat([answer, Buffer.alloc(1)]);
    case 'handshake-bad-signature':
      forger ??= generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
      return answerHello(key, forger);
    default:
      return answer;
  }
}
