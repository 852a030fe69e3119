import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Clock } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { WireError, type Taken } from './usbip-codec.ts';
import { WireBuffer } from './wire-buffer.ts';

export interface RackAddress {
  readonly host: string;
  readonly port: number;
}

/** For a connection and the first answer on it, in ms. */
const EXCHANGE_MS = 5000;

/** `HOST:PORT`, as paths of devices on that rack begin; an IPv6 address stands in brackets. */
export function rackName({ host, port }: RackAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export function protocolFault(rack: RackAddress, cause: WireError): Fault {
  const name = rackName(rack);
  return new Fault('RACK_PROTOCOL', `rack ${name}: ${cause.message}`, { facts: { rack: name }, cause });
}

/**
 * One question and its answer on a connection of its own.
 * @returns the answer, with the connection still open; the caller closes it
 * @throws Fault RACK_UNREACHABLE (refused, no answer in 5 s, closed), RACK_PROTOCOL
 */
export async function exchange<T>(
  rack: RackAddress,
  question: Buffer,
  takeAnswer: (arrived: Buffer) => Taken<T> | null,
  clock: Clock,
): Promise<{ readonly answer: T; readonly socket: Socket; readonly rest: WireBuffer }> {
  const name = rackName(rack);
  const socket = connect({ host: rack.host, port: rack.port, noDelay: true });
  const rest = new WireBuffer();
  let callOff = (): void => undefined;
  const unreachable = (why: string, cause?: unknown) =>
    new Fault('RACK_UNREACHABLE', `rack ${name}: ${why}`, { facts: { rack: name }, cause });
  try {
    const answer = await new Promise<T>((resolve, reject) => {
      socket.on('connect', () => socket.write(question));
      socket.on('error', cause => reject(unreachable(cause.message, cause)));
      socket.on('close', () => reject(unreachable('it closed the connection without an answer')));
      socket.on('data', piece => {
        rest.push(piece);
        try {
          const taken = rest.take(arrived => {
            const frame = takeAnswer(arrived);
            return frame && { frame: { value: frame.frame }, bytes: frame.bytes };
          });
          if (!taken) return;
          socket.pause();
          resolve(taken.value);
        } catch (cause) {
          reject(cause instanceof WireError ? protocolFault(rack, cause) : toError(cause));
        }
      });
      callOff = clock.after(EXCHANGE_MS, () => reject(unreachable(`no answer in ${EXCHANGE_MS} ms`)));
    });
    return { answer, socket, rest };
  } catch (thrown) {
    await hangUp(socket);
    throw thrown;
  } finally {
    callOff();
    for (const event of ['connect', 'error', 'close', 'data']) socket.removeAllListeners(event);
    // Until its next owner listens, an error means that the connection is gone, which that owner will see.
    socket.on('error', () => undefined);
  }
}

/** Ends a connection for good; resolves when nothing of it is left. */
export async function hangUp(socket: Socket): Promise<void> {
  if (socket.closed) return;
  const closed = once(socket, 'close').catch(() => undefined); // an error comes before the close, which is all we want
  socket.destroy();
  await closed;
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
