import { connect } from 'node:net';
import type { Socket } from 'node:net';
import type { Clock } from '../core/clock.ts';
import type { Exchange, Prover, ServerAddress } from '../core/prover.ts';
import { networkReason } from './reason.ts';

/** Lengths on the wire, in bytes: the server's nonce, and its answer to the 256 that it is sent. */
const NONCE = 40;
const ANSWER = 384;
/** A server that greets and hangs up, as a crowded one does, has told so by then: it is none that refuses a key. */
const HANGS_UP_MS = 50;

export interface ProverParts {
  readonly clock: Clock;
  /** Of a whole handshake, from the look-up of the name on. */
  readonly timeoutMs: number;
  readonly server: Prover['server'];
  /** Calls off what is under way. */
  readonly stop?: AbortSignal;
}

/** A prover over TCP. */
export function tcpProver({ server, ...parts }: ProverParts): Prover {
  return { server, exchange: (address, hello) => exchange(address, hello, parts) };
}

/**
 * One handshake as a device has it: reads 40, sends 256, reads 384. Nothing that a server does makes it throw; what
 * `hello` throws passes through. A connection that is reset says nothing: a server that knows no such key closes.
 */
export async function exchange(
  { host, port }: ServerAddress,
  hello: (nonce: Uint8Array) => Uint8Array,
  { clock, timeoutMs, stop }: Omit<ProverParts, 'server'>,
): Promise<Exchange> {
  const socket = connect({ host, port, noDelay: true });
  const calledOff: (() => void)[] = [];
  try {
    return await new Promise<Exchange>((resolve, reject) => {
      const untried = (reason: string): void => resolve({ kind: 'untried', reason: `${host}:${port}: ${reason}` });
      calledOff.push(clock.after(timeoutMs, () => untried(`no handshake within ${timeoutMs} ms`)));
      const onStop = (): void => untried('it was called off');
      stop?.addEventListener('abort', onStop);
      calledOff.push(() => stop?.removeEventListener('abort', onStop));
      const soon = (act: () => void): void => void calledOff.push(clock.after(HANGS_UP_MS, () => setImmediate(act)));
      socket.on('error', error => untried(networkReason(error, [])));
      converse(socket, { resolve, reject, untried, hello, soon });
    });
  } finally {
    for (const callOff of calledOff) callOff();
    socket.destroy();
  }
}

interface Conversation {
  readonly resolve: (end: Exchange) => void;
  readonly reject: (thrown: Error) => void;
  readonly untried: (reason: string) => void;
  readonly hello: (nonce: Uint8Array) => Uint8Array;
  readonly soon: (act: () => void) => void;
}

function converse(socket: Socket, { resolve, reject, untried, hello, soon }: Conversation): void {
  let nonce = Buffer.alloc(0);
  let answer: Buffer | null = null;
  const reply = (): void => {
    if (socket.readableEnded || socket.destroyed) return; // it has hung up already, and hears nothing
    try {
      const bytes = hello(nonce);
      answer = Buffer.alloc(0);
      socket.write(bytes);
    } catch (thrown) {
      reject(thrown instanceof Error ? thrown : new Error('hello'));
    }
  };
  socket.on('data', (chunk: Buffer) => {
    if (answer === null) {
      nonce = Buffer.concat([nonce, chunk]);
      if (nonce.length > NONCE) untried(`more than ${NONCE} bytes before anything was said`);
      else if (nonce.length === NONCE) soon(reply);
      return;
    }
    answer = Buffer.concat([answer, chunk]);
    if (answer.length > ANSWER) untried(`an answer of more than ${ANSWER} bytes`);
    else if (answer.length === ANSWER) resolve({ kind: 'answered', answer });
  });
  socket.on('end', () => {
    if (answer === null) untried(`the server closed after ${nonce.length} bytes, before anything was said`);
    else if (answer.length === 0) resolve({ kind: 'closed' });
    else untried(`the server closed after ${answer.length} of ${ANSWER} bytes of its answer`);
  });
  socket.on('close', () => untried('the connection was closed'));
}
