import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseUsbPath } from '#src/core/usb-path.ts';
import {
  encodeSubmit,
  encodeSubmitReply,
  encodeUnlink,
  encodeUnlinkReply,
  MAX_TRANSFER_BYTES,
  takeCommand,
  takeReply,
  WireError,
  type Taken,
} from '#src/usb/usbip-codec.ts';
import {
  encodeImportReply,
  encodeImportRequest,
  encodeListReply,
  encodeListRequest,
  takeImportReply,
  takeListReply,
  takeOperation,
} from '#src/usb/usbip-operations.ts';
import { WireBuffer } from '#src/usb/wire-buffer.ts';
import { cuts, fuzz, GET_DESCRIPTOR, inPieces, mutated } from '../support/fuzz.ts';
import { LISTED } from '../support/listed-device.ts';

/** Bytes that URBs take, by sequence number. */
const ROOMS = new Map([
  [1, 18],
  [2, 0],
  [3, MAX_TRANSFER_BYTES],
]);

const submit = { deviceNumber: 0x1_0009, endpoint: 0, setup: GET_DESCRIPTOR };
const reply = (sequence: number, length: number, status = 0): Buffer =>
  encodeSubmitReply({ sequence, status, actualLength: length, data: Buffer.alloc(length, 7) });

interface Decoder {
  readonly take: (arrived: Buffer) => Taken<unknown> | null;
  readonly examples: readonly Buffer[];
}

const DECODERS = {
  'the commands of a client': {
    take: takeCommand,
    examples: [
      encodeSubmit({ ...submit, sequence: 1, direction: 'in', length: 18, data: new Uint8Array(0) }),
      encodeSubmit({ ...submit, sequence: 2, direction: 'out', length: 5, data: Buffer.from('block') }),
      encodeUnlink({ sequence: 3, deviceNumber: 0x1_0009, victim: 1 }),
    ],
  },
  'the answers of a server': {
    take: arrived => takeReply(arrived, sequence => ROOMS.get(sequence)),
    examples: [
      reply(1, 18),
      reply(2, 0),
      reply(3, 100),
      reply(1, 0, -32),
      encodeUnlinkReply({ sequence: 4, status: -104 }),
    ],
  },
  'what a client asks for first': {
    take: takeOperation,
    examples: [encodeListRequest(), encodeImportRequest('1-2.3')],
  },
  'a list of devices': {
    take: takeListReply,
    examples: [encodeListReply([]), encodeListReply([LISTED]), encodeListReply([LISTED, LISTED, LISTED])],
  },
  'the answer to an import': {
    take: takeImportReply,
    examples: [encodeImportReply(0, LISTED), encodeImportReply(2, null)],
  },
} as const satisfies Record<string, Decoder>;

/** Every frame that comes out, and how it ends: with the message of an error, or with so many bytes left over. */
function decoded(take: Decoder['take'], pieces: readonly Buffer[]): { frames: unknown[]; end: string | number } {
  const buffer = new WireBuffer();
  const frames: unknown[] = [];
  try {
    for (const piece of pieces) {
      buffer.push(piece);
      for (;;) {
        const before = buffer.length;
        const frame = buffer.take(arrived => {
          const taken = take(arrived);
          // An empty frame would be taken for ever.
          if (taken && !(taken.bytes > 0 && taken.bytes <= arrived.length))
            throw new RangeError(`${taken.bytes} bytes`);
          return taken;
        });
        if (frame === null) break;
        expect(buffer.length).toBeLessThan(before);
        frames.push(frame);
      }
    }
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    return { frames, end: thrown.message };
  }
  return { frames, end: buffer.length };
}

function buffersNow(): number {
  return process.memoryUsage().arrayBuffers;
}

test.each(Object.entries<Decoder>(DECODERS))(
  'any bytes, taken for %s, give whole frames or a WireError, the same in whatever pieces they arrive, and no length is believed',
  async (_, { take, examples }) => {
    const stream = fc.array(
      fc.oneof(
        { weight: 3, arbitrary: fc.constantFrom(...examples) },
        { weight: 3, arbitrary: fc.constantFrom(...examples).chain(example => mutated(example)) },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 400 }).map(bytes => Buffer.from(bytes)) },
      ),
      { minLength: 1, maxLength: 4 },
    );
    await fuzz(fc.tuple(stream, cuts), 700, ([parts, where]) => {
      const bytes = Buffer.concat(parts);
      const before = buffersNow();
      const whole = decoded(take, [bytes]);
      // What came and copies of it; a length field of 4 GB may not have been made room for.
      expect(buffersNow() - before).toBeLessThan(16_000_000);
      expect(decoded(take, inPieces(bytes, where))).toEqual(whole);
      for (const frame of whole.frames) expectFrame(frame as Record<string, unknown>);
    });
  },
);

/** What every frame says of itself, whichever it is. */
function expectFrame({ data, length, sequence, busId }: Record<string, unknown>): void {
  if (data !== undefined) expect((data as Uint8Array).length).toBeLessThanOrEqual(MAX_TRANSFER_BYTES);
  if (length !== undefined) expect(length).toBeLessThanOrEqual(MAX_TRANSFER_BYTES);
  if (sequence !== undefined) expect(Number.isInteger(sequence)).toBe(true);
  if (busId !== undefined && busId !== '') expect(busId).toMatch(/^[\x20-\x7e]+$/);
}

test('a device of a list or an import hangs at a path of its own machine', async () => {
  const elsewhere = ['r:1/1-2.3\0'.padEnd(40, '\0'), '../1-1\0', '0-1\0', ' 1-1\0'];
  const lists = mutated(encodeListReply([LISTED, LISTED]), elsewhere);
  const imports = mutated(encodeImportReply(0, LISTED), elsewhere);
  await fuzz(fc.tuple(lists, imports), 1500, ([list, one]) => {
    let devices: readonly { readonly busId: string }[] = [];
    try {
      devices = [...(takeListReply(list)?.frame ?? []), ...[takeImportReply(one)?.frame.device ?? []].flat()];
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
    }
    for (const { busId } of devices) expect([parseUsbPath(busId), busId.includes('/')]).toEqual([busId, false]);
  });
});
