import { createServer, type AddressInfo, type Socket } from 'node:net';
import { Fault } from '../core/errors.ts';
import { UsbipSession, type RackEvent } from './usbip-session.ts';
import type { VirtualRack } from './virtual-rack.ts';

export interface ServeOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** What clients do, for whoever watches. */
  onEvent?(event: RackEvent): void;
}

export interface RackServer {
  readonly host: string;
  /** The one that it listens on. */
  readonly port: number;
  /** Ends every connection. The rack itself stays as it is. */
  close(): Promise<void>;
}

/**
 * Serves a virtual rack over USB/IP: to `--rack`, to `usbip list -r` and, with `usbip attach`, to a Linux kernel.
 * @throws Fault PORT_IN_USE, or USAGE where the address can't be listened on
 */
export async function serveRack(rack: VirtualRack, options: ServeOptions): Promise<RackServer> {
  const sessions = new Set<UsbipSession>();
  const server = createServer({ noDelay: true }, (socket: Socket) => {
    const session = new UsbipSession(rack, socket, {
      onEvent: event => options.onEvent?.(event),
      onEnded: () => sessions.delete(session),
    });
    sessions.add(session);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', cause => reject(listenFault(options, cause)));
    server.listen({ host: options.host, port: options.port }, resolve);
  });
  const address = server.address() as AddressInfo;
  return {
    host: address.address,
    port: address.port,
    async close() {
      const closed = new Promise<void>(resolve => server.close(() => resolve()));
      await Promise.all([...sessions].map(session => session.hangUp()));
      await closed;
    },
  };
}

function listenFault({ host, port }: ServeOptions, cause: NodeJS.ErrnoException): Fault {
  const where = `${host}:${port}`;
  const facts = { host, port };
  if (cause.code === 'EADDRINUSE') {
    return new Fault('PORT_IN_USE', `another program listens on ${where}`, { facts, cause });
  }
  return new Fault('USAGE', `can't listen on ${where}: ${cause.message}`, { facts, cause });
}
