import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { exchange } from '#src/cloud/handshake.ts';
import { systemClock } from '#src/core/clock.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import { serverOf } from '#src/job/server-on-device.ts';
import { applyServerChange } from '#src/job/server-change.ts';
import { makeKeyPair, type KeyPair } from '#src/keys/make-key-pair.ts';
import { DCT, fieldOf } from '#src/photon/dct.ts';
import { helloFor, padType1, proofOf, serverKeyIn, unpadType2 } from '#src/photon/handshake.ts';
import { readServerField } from '#src/photon/server-field.ts';
import { makeRsa, type RsaDer } from '#src/sim/photon-rsa.ts';
import { answerHello, readHello } from '#src/sim/server-handshake.ts';

const DEVICE = parseDeviceId('1b003b000347343138333037')!;

let pair: KeyPair;
let other: KeyPair;
let server: RsaDer;
let otherServer: RsaDer;
beforeAll(async () => {
  [pair, other, server, otherServer] = await Promise.all([makeKeyPair(), makeKeyPair(), makeRsa(2048), makeRsa(2048)]);
});

const privateOf = ({ privateKey }: RsaDer) => createPrivateKey({ key: privateKey, format: 'der', type: 'pkcs1' });
const keyOf = ({ publicKey }: RsaDer) => serverKeyIn(publicKey)!;
const proof = (answer: Uint8Array, serverKey = keyOf(server)) =>
  proofOf(answer, { privateDer: pair.privateDer, serverKey });

describe('the codec', () => {
  test('what the device says is read by the server, and its answer proves the key', () => {
    const nonce = randomBytes(40);
    const hello = helloFor(nonce, { deviceId: DEVICE, spki: pair.spki, serverKey: keyOf(server) });
    expect(hello).toHaveLength(256);
    expect(readHello(hello, privateOf(server))).toEqual({ nonce, deviceId: DEVICE, spki: pair.spki });
    const answer = answerHello(pair.spki, privateOf(server));
    expect(answer).toHaveLength(384);
    expect(proof(answer)).toBe('proven');
  });

  test('a hello for another server key is no hello, and neither is any other block of 256 bytes', () => {
    const hello = helloFor(randomBytes(40), { deviceId: DEVICE, spki: pair.spki, serverKey: keyOf(otherServer) });
    expect(readHello(hello, privateOf(server))).toBeNull();
    for (const bytes of [Buffer.alloc(256), Buffer.alloc(256, 0xff), randomBytes(256)]) {
      expect(readHello(bytes, privateOf(server))).toBeNull();
    }
  });

  test('the wrong keys are told apart', () => {
    expect(proof(answerHello(other.spki, privateOf(server)))).toBe('device-key');
    expect(proof(answerHello(pair.spki, privateOf(otherServer)))).toBe('server-key');
    expect(proof(answerHello(pair.spki, privateOf(server)), keyOf(otherServer))).toBe('server-key');
  });

  test('every single byte of the answer counts', () => {
    const answer = answerHello(pair.spki, privateOf(server));
    for (let at = 0; at < answer.length; at += 1) {
      const flipped = Buffer.from(answer);
      flipped[at]! ^= 1 << (at % 8);
      expect([at, proof(flipped)]).toEqual([at, expect.stringMatching(at < 128 ? /-key$/ : /^server-key$/)]);
    }
    expect(proof(answer)).toBe('proven');
  });

  test('a secret of another length than 40 bytes is none', () => {
    for (const length of [0, 1, 39, 41, 117]) {
      expect(proof(answerHello(pair.spki, privateOf(server), randomBytes(length)))).toBe('device-key');
    }
  });

  test('no answer of other bytes proves anything, or throws', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 384, maxLength: 384 }),
      fc.uint8Array({ maxLength: 800 }),
      fc.constantFrom(0, 0xff).map(value => new Uint8Array(384).fill(value)),
      // The first half is a real secret, what follows is not its signature.
      fc.uint8Array({ minLength: 256, maxLength: 256 }).map(tail => {
        return Buffer.concat([answerHello(pair.spki, privateOf(server)).subarray(0, 128), tail]);
      }),
    );
    fc.assert(
      fc.property(bytes, answer => {
        expect(proof(answer)).toMatch(/^(device|server)-key$/);
      }),
      { numRuns: 300 },
    );
  });

  test('padding: a wrong head, a zero in the midst, no zero before the message', () => {
    const padded = Buffer.concat([Buffer.from([0, 2]), Buffer.alloc(85, 7), Buffer.from([0]), Buffer.alloc(40, 9)]);
    expect(unpadType2(Buffer.from(padded), 40)).toEqual({ message: Buffer.alloc(40, 9), isPadded: true });
    for (const [at, value] of [
      [0, 1],
      [1, 1],
      [1, 0],
      [2, 0],
      [50, 0],
      [86, 0],
      [87, 1],
    ] as const) {
      const wrong = Buffer.from(padded);
      wrong[at] = value;
      expect([at, unpadType2(wrong, 40).isPadded]).toEqual([at, false]);
    }
    expect(padType1(Buffer.alloc(20, 5), 256).toString('hex')).toBe(`0001${'ff'.repeat(233)}00${'05'.repeat(20)}`);
  });
});

describe('what a device knows of its server', () => {
  const field = (change: Parameters<typeof applyServerChange>[1], before = 0xff) => {
    const dct = Buffer.alloc(DCT.LENGTH, before);
    applyServerChange(dct, change);
    return fieldOf(dct, DCT.SERVER_PUBLIC_KEY);
  };
  const none = { key: null, host: null, port: null };

  test('is what a job has written', () => {
    const { publicKey: key } = server;
    expect(readServerField(field({ key, host: 'cloud.example', port: 5000 }))).toEqual({
      key,
      address: { kind: 'host', host: 'cloud.example' },
      port: 5000,
    });
    const numbers = readServerField(field({ key, host: '10.0.0.7', port: null }));
    expect(numbers).toMatchObject({ address: { kind: 'host', host: '10.0.0.7' }, port: 5683 });
    expect(serverOf(field({ key, host: '10.0.0.7', port: null }), { ...none, key })).toMatchObject({
      kind: 'known',
      isExpected: 'same',
    });
    const expected = { ...none, key: otherServer.publicKey };
    expect(serverOf(field({ key, host: '10.0.0.7', port: null }), expected)).toMatchObject({ isExpected: 'other' });
  });

  test('the one that is built in stands in the configuration, or nowhere', () => {
    const builtIn = field({ key: 'builtin', host: null, port: null });
    expect(readServerField(builtIn)).toBeNull();
    expect(serverOf(builtIn, none)).toMatchObject({
      kind: 'unknown',
      reason: expect.stringMatching('built into it') as string,
    });
    const { publicKey: key } = server;
    expect(serverOf(builtIn, { key, host: 'cloud.example', port: null })).toEqual({
      kind: 'known',
      key,
      address: { host: 'cloud.example', port: 5683 },
      isExpected: 'same',
    });
    const blankAddress = field({ key, host: null, port: null });
    expect(serverOf(blankAddress, none)).toMatchObject({
      reason: expect.stringMatching('address that is built') as string,
    });
    expect(serverOf(blankAddress, { ...none, host: 'x.example' })).toMatchObject({ address: { host: 'x.example' } });
  });

  test('an address that makes no sense is none, whatever the bytes are', () => {
    const senseless = fc.uint8Array({ minLength: 66, maxLength: 66 });
    fc.assert(
      fc.property(senseless, block => {
        const bytes = Buffer.from(field({ key: server.publicKey, host: null, port: null }));
        bytes.set(block, 384);
        const { address } = readServerField(bytes)!;
        if (address.kind === 'host') expect(address.host).toMatch(/^[a-z0-9.-]+$/);
        expect(serverOf(bytes, none).kind).toBe(address.kind === 'host' ? 'known' : 'unknown');
      }),
    );
  });

  test('a server key is read by position, as the firmware does; what is none is told', () => {
    const spki = (key: ReturnType<typeof serverKeyIn>) => key?.export({ format: 'der', type: 'spki' });
    const odd = Buffer.from(server.publicKey);
    odd.fill(0, 0, 33);
    expect(spki(serverKeyIn(odd))).toEqual(server.publicKey);
    expect(createPublicKey({ key: server.publicKey, format: 'der', type: 'spki' })).toBeDefined();
    for (const value of [0, 0xff - 1]) expect(serverKeyIn(Buffer.alloc(294, value))).toBeNull();
    expect(serverKeyIn(Buffer.alloc(100, 0xff))).toBeNull();
  });
});

describe('the wire', () => {
  const SHORT_MS = 300;
  let listening: Server | null = null;
  const sockets = new Set<Socket>();
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise(resolve => (listening ? listening.close(resolve) : resolve(null)));
    listening = null;
  });

  /** A server that does this to whoever connects, and what came of it. */
  async function against(act: (socket: Socket) => void, timeoutMs = 20_000, hello = () => Buffer.alloc(256, 1)) {
    listening = createServer({ allowHalfOpen: true }, socket => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      act(socket);
    });
    await new Promise<void>(resolve => listening?.listen(0, '127.0.0.1', resolve));
    const { port } = listening.address() as AddressInfo;
    const end = await exchange({ host: '127.0.0.1', port }, hello, { clock: systemClock, timeoutMs });
    return end.kind === 'untried' ? end.reason.replace(`127.0.0.1:${port}: `, '') : end;
  }

  /** Greets, and goes on when all 256 bytes have come. */
  const afterHello = (act: (socket: Socket) => void) => (socket: Socket) => {
    let came = 0;
    socket.on('data', chunk => {
      came += chunk.length;
      if (came === 256) act(socket);
    });
    socket.write(Buffer.alloc(40));
  };

  test('reads 40, sends 256, reads 384', async () => {
    const answer = randomBytes(384);
    expect(await against(afterHello(socket => socket.write(answer)))).toEqual({ kind: 'answered', answer });
  });

  test('byte by byte does as well', async () => {
    const answer = randomBytes(384);
    const trickle = (socket: Socket, bytes: Uint8Array, at = 0): void => {
      if (at < bytes.length) socket.write(bytes.subarray(at, at + 1), () => trickle(socket, bytes, at + 1));
    };
    const end = await against(socket => {
      socket.setNoDelay(true);
      socket.on('data', () => trickle(socket, answer));
      trickle(socket, Buffer.alloc(40));
    });
    expect(end).toEqual({ kind: 'answered', answer });
  });

  test('closed without a word after the 256 bytes is an answer', async () => {
    expect(await against(afterHello(socket => socket.end()))).toEqual({ kind: 'closed' });
  });

  test.each([
    ['closes at once', socket => socket.end(), 'the server closed after 0 bytes, before anything was said'],
    [
      'closes in the midst of the nonce',
      socket => socket.end(Buffer.alloc(39)),
      'the server closed after 39 bytes, before anything was said',
    ],
    [
      'greets and hangs up at once',
      socket => socket.end(Buffer.alloc(40)),
      'the server closed after 40 bytes, before anything was said',
    ],
    ['says too much', socket => socket.write(Buffer.alloc(41)), 'more than 40 bytes before anything was said'],
    [
      'closes in the midst of its answer',
      afterHello(socket => socket.end(Buffer.alloc(383))),
      'the server closed after 383 of 384 bytes of its answer',
    ],
    ['answers too much', afterHello(socket => socket.write(Buffer.alloc(385))), 'an answer of more than 384 bytes'],
    ['resets', afterHello(socket => socket.resetAndDestroy()), 'connection reset (ECONNRESET)'],
  ] satisfies [string, (socket: Socket) => void, string][])('one that %s says nothing', async (_, act, reason) => {
    expect(await against(act)).toBe(reason);
  });

  test.each([
    ['greets nobody', () => undefined],
    ['stops in the midst of the nonce', socket => socket.write(Buffer.alloc(39))],
    ['never answers', socket => socket.write(Buffer.alloc(40))],
    ['stops in the midst of its answer', afterHello(socket => socket.write(Buffer.alloc(383)))],
  ] satisfies [string, (socket: Socket) => void][])('one that %s is waited for until the deadline', async (_, act) => {
    expect(await against(act, SHORT_MS)).toBe(`no handshake within ${SHORT_MS} ms`);
  });

  test('a port on which nobody listens, a name that there is not', async () => {
    expect(await against(() => undefined, SHORT_MS)).toMatch('no handshake');
    const { port } = listening!.address() as AddressInfo;
    for (const socket of sockets) socket.destroy();
    await new Promise(resolve => listening!.close(resolve));
    listening = null;
    const how = { clock: systemClock, timeoutMs: 20_000 };
    const hello = () => Buffer.alloc(256);
    expect(await exchange({ host: '127.0.0.1', port }, hello, how)).toEqual({
      kind: 'untried',
      reason: `127.0.0.1:${port}: connection refused (ECONNREFUSED)`,
    });
    expect((await exchange({ host: 'no-such-host.invalid', port }, hello, how)).kind).toBe('untried');
  });

  test('whatever a server says, it ends, and proves nothing', async () => {
    const chunks = fc.array(fc.uint8Array({ maxLength: 500 }), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(chunks, fc.boolean(), async (said, greets) => {
        const end = await against(socket => {
          socket.resume();
          if (greets) socket.write(Buffer.alloc(40));
          for (const chunk of said) socket.write(chunk);
          socket.end();
        });
        if (typeof end !== 'string' && end.kind === 'answered') expect(proof(end.answer)).not.toBe('proven');
        await new Promise(resolve => listening!.close(resolve));
      }),
      { numRuns: 60 },
    );
  });

  test('what goes wrong on this side passes through, and the connection is closed', async () => {
    const broken = against(
      socket => socket.write(Buffer.alloc(40)),
      20_000,
      () => {
        throw new RangeError('a hello of 3 bytes');
      },
    );
    await expect(broken).rejects.toThrow('a hello of 3 bytes');
  });
});
