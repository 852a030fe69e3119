import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseUsbPath } from '#src/core/usb-path.ts';
import { packSetup, requestName, setupPacket, unpackSetup } from '#src/usb/setup-packet.ts';
import { decodeStringDescriptor } from '#src/usb/usb-descriptors.ts';
import {
  encodeSubmit,
  encodeSubmitReply,
  encodeUnlink,
  encodeUnlinkReply,
  FRAME_BYTES,
  takeCommand,
  takeReply,
  WireError,
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

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const setup = fc.record({ requestType: u8, request: u8, value: u16, index: u16, length: u16 });
const bytes = fc.uint8Array({ maxLength: 300 });
const errno = fc.integer({ min: -200, max: 0 });
const direction = fc.constantFrom('in' as const, 'out' as const);

const busId = fc
  .tuple(fc.integer({ min: 1, max: 99 }), fc.array(fc.integer({ min: 1, max: 127 }), { minLength: 1, maxLength: 5 }))
  .map(([bus, ports]) => parseUsbPath(`${bus}-${ports.join('.')}`)!);
const deviceNumbers = {
  busNumber: u32,
  deviceNumber: u32,
  speed: u32,
  vendorId: u16,
  productId: u16,
  release: u16,
  deviceClass: u8,
  subclass: u8,
  protocol: u8,
  configuration: u8,
  configurations: u8,
};
const path = fc.stringMatching(/^[ -~]{0,255}$/);
const device = fc.record({ path, busId, ...deviceNumbers, interfaceCount: u8 });
const interfaces = fc.array(fc.record({ interfaceClass: u8, subclass: u8, protocol: u8 }), { maxLength: 32 });
const listed = fc
  .record({ path, busId, ...deviceNumbers, interfaces })
  .map(each => ({ ...each, interfaceCount: each.interfaces.length }));

/** Every proper piece of a frame must be waited for, not misread. */
function waits<T>(frame: Buffer, take: (arrived: Buffer) => T | null): void {
  for (const length of [0, 1, 7, frame.length >> 1, frame.length - 1]) {
    if (length < frame.length) expect(take(frame.subarray(0, length))).toBeNull();
  }
}

describe('USB/IP frames come out as they went in', () => {
  test('CMD_SUBMIT', () => {
    fc.assert(
      fc.property(
        u32,
        u32,
        direction,
        fc.integer({ min: 0, max: 15 }),
        setup,
        bytes,
        (sequence, deviceNumber, way, endpoint, packet, data) => {
          const sent = { sequence, deviceNumber, direction: way, endpoint, setup: packet, length: data.length };
          const command = { ...sent, data: way === 'out' ? data : new Uint8Array(0) };
          const frame = encodeSubmit(command);
          waits(frame, takeCommand);
          expect(takeCommand(Buffer.concat([frame, frame]))).toEqual({
            frame: { kind: 'submit', ...command },
            bytes: frame.length,
          });
        },
      ),
    );
  });

  test('CMD_UNLINK', () => {
    fc.assert(
      fc.property(u32, u32, u32, (sequence, deviceNumber, victim) => {
        const frame = encodeUnlink({ sequence, deviceNumber, victim });
        waits(frame, takeCommand);
        expect(takeCommand(frame)).toEqual({
          frame: { kind: 'unlink', sequence, deviceNumber, victim },
          bytes: FRAME_BYTES,
        });
      }),
    );
  });

  test('RET_SUBMIT, whose data are there for IN only', () => {
    fc.assert(
      fc.property(u32, errno, bytes, (sequence, status, data) => {
        const frame = encodeSubmitReply({ sequence, status, actualLength: data.length, data });
        const reply = { kind: 'retSubmit', sequence, status, actualLength: data.length };
        waits(frame, arrived => takeReply(arrived, () => data.length));
        expect(takeReply(frame, () => data.length)?.frame).toEqual({ ...reply, data });
        const none = encodeSubmitReply({ sequence, status, actualLength: data.length, data: new Uint8Array(0) });
        expect(takeReply(none, () => 0)).toEqual({ frame: { ...reply, data: new Uint8Array(0) }, bytes: FRAME_BYTES });
      }),
    );
  });

  test('RET_UNLINK', () => {
    fc.assert(
      fc.property(u32, errno, (sequence, status) => {
        const frame = encodeUnlinkReply({ sequence, status });
        waits(frame, arrived => takeReply(arrived, () => undefined));
        expect(takeReply(frame, () => undefined)?.frame).toEqual({ kind: 'retUnlink', sequence, status });
      }),
    );
  });

  test('OP_REQ_DEVLIST and OP_REQ_IMPORT', () => {
    expect(takeOperation(encodeListRequest())).toEqual({ frame: { kind: 'list' }, bytes: 8 });
    fc.assert(
      fc.property(busId, id => {
        const frame = encodeImportRequest(id);
        waits(frame, takeOperation);
        expect(takeOperation(frame)).toEqual({ frame: { kind: 'import', busId: id }, bytes: 40 });
      }),
    );
  });

  test('OP_REP_DEVLIST', () => {
    fc.assert(
      fc.property(fc.array(listed, { maxLength: 5 }), devices => {
        const frame = encodeListReply(devices);
        waits(frame, takeListReply);
        expect(takeListReply(frame)).toEqual({ frame: devices, bytes: frame.length });
      }),
    );
  });

  test('OP_REP_IMPORT', () => {
    fc.assert(
      fc.property(device, each => {
        const frame = encodeImportReply(0, each);
        waits(frame, takeImportReply);
        expect(takeImportReply(frame)?.frame).toEqual({ status: 0, device: each });
      }),
    );
    expect(takeImportReply(encodeImportReply(2, null))?.frame).toEqual({ status: 2, device: null });
  });

  test('setup packets', () => {
    fc.assert(
      fc.property(setup, packet => {
        expect(unpackSetup(packSetup(packet))).toEqual(packet);
      }),
    );
  });
});

describe('what comes from the wire is not believed', () => {
  test('any bytes at all give a frame, a wait or a WireError, and nothing else', () => {
    const takers = [takeCommand, takeOperation, takeListReply, takeImportReply, (b: Buffer) => takeReply(b, () => 8)];
    const prefix = fc.constantFrom('01110005', '01110003', '01118005', '01118003', '00000001', '00000003', '');
    fc.assert(
      fc.property(prefix, fc.uint8Array({ maxLength: 700 }), fc.constantFrom(...takers), (front, rest, take) => {
        const arrived = Buffer.concat([Buffer.from(front, 'hex'), rest]);
        try {
          const taken = take(arrived);
          if (taken) expect(taken.bytes).toBeLessThanOrEqual(arrived.length);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(WireError);
        }
      }),
      { numRuns: 500 },
    );
  });

  function submit(change: (frame: Buffer) => void): Buffer {
    const packet = { requestType: 0x21, request: 1, value: 0, index: 0, length: 4 };
    const frame = encodeSubmit({
      sequence: 1,
      deviceNumber: 2,
      direction: 'out',
      endpoint: 0,
      length: 4,
      setup: packet,
      data: new Uint8Array(4),
    });
    change(frame);
    return frame;
  }

  test.each([
    ['a length of 4 GB', 24, 0xffff_ffff],
    ['an endpoint that there can not be', 16, 16],
    ['a direction that is none', 12, 2],
    ['isochronous packets', 32, 3],
    ['an unknown command', 0, 9],
  ])('a command with %s', (_, at, value) => {
    expect(() => takeCommand(submit(frame => frame.writeUInt32BE(value, at)))).toThrow(WireError);
  });

  test('an answer longer than what was asked for, to nobody, or with a positive status', () => {
    const reply = (status: number, length: number) =>
      encodeSubmitReply({ sequence: 7, status, actualLength: length, data: new Uint8Array(length) });
    expect(() => takeReply(reply(0, 7), () => 6)).toThrow('7 bytes for a transfer that takes 6');
    expect(() => takeReply(reply(0, 6), () => undefined)).toThrow('never submitted');
    expect(() => takeReply(reply(1, 0), () => 6)).toThrow('status 1');
  });

  test('a list of more devices than there can be, before room is made for them', () => {
    const frame = encodeListReply([]);
    frame.writeUInt32BE(1_000_000, 8);
    expect(() => takeListReply(frame)).toThrow('a list of 1000000 devices');
  });

  test('another version, a refused list, a bus ID that is none or has no end', () => {
    const version = encodeListReply([]);
    version.writeUInt16BE(0x0106, 0);
    expect(() => takeListReply(version)).toThrow('version 0x0106, where 0x0111 is spoken');
    const refused = encodeListReply([]);
    refused.writeUInt32BE(5, 4);
    expect(() => takeListReply(refused)).toThrow('refused with status 5');
    const endless = encodeImportRequest('1-1');
    endless.fill(0x41, 8);
    expect(() => takeOperation(endless)).toThrow('the bus ID has no end');
    const escaping = encodeImportRequest('1-1');
    escaping.write('\x1b[2J\0', 8);
    expect(() => takeOperation(escaping)).toThrow('not plain text');
  });
});

test('a stream may be cut anywhere', () => {
  const frames = [1, 2, 3].map(sequence => encodeUnlink({ sequence, deviceNumber: 5, victim: sequence + 10 }));
  const stream = Buffer.concat(frames);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: stream.length }), { maxLength: 6 }), cuts => {
      const buffer = new WireBuffer();
      const seen: number[] = [];
      const ends = [...cuts.sort((a, b) => a - b), stream.length];
      let from = 0;
      for (const to of ends) {
        buffer.push(stream.subarray(from, to));
        from = to;
        for (let frame = buffer.take(takeCommand); frame; frame = buffer.take(takeCommand)) seen.push(frame.sequence);
      }
      expect(seen).toEqual([1, 2, 3]);
      expect(buffer.length).toBe(0);
    }),
  );
});

describe('descriptors', () => {
  const string = (text: string) => {
    const units = Buffer.from(text, 'utf16le');
    return Buffer.concat([Buffer.from([units.length + 2, 3]), units]);
  };

  test('a string is UTF-16LE', () => {
    expect(decodeStringDescriptor(string('3B0021 ü'))).toBe('3B0021 ü');
  });

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['an empty one', Buffer.from([2, 3])],
    ['an odd length', Buffer.from([5, 3, 0x41, 0, 0x42])],
    ['more than was sent', Buffer.from([10, 3, 0x41, 0])],
    ['another type', Buffer.from([4, 1, 0x41, 0])],
    ['half a surrogate pair', Buffer.from([4, 3, 0x00, 0xd8])],
  ])('a string of %s is null', (_, descriptor) => {
    expect(decodeStringDescriptor(descriptor)).toBeNull();
  });
});

test('requests have names that say what they are', () => {
  const named = (requestType: 'standard' | 'class' | 'vendor', request: number) =>
    requestName({ requestType, recipient: 'interface', request, value: 0, index: 0 });
  expect([
    named('class', 3),
    named('class', 9),
    named('standard', 11),
    named('standard', 77),
    named('vendor', 80),
  ]).toEqual(['DFU GETSTATUS', 'class request 9', 'setInterface', 'standard request 77', 'vendor request 80']);
  expect(
    setupPacket({ requestType: 'class', recipient: 'interface', request: 3, value: 0, index: 0 }, 'in', 6).requestType,
  ).toBe(0xa1);
});
