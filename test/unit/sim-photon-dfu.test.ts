import { describe, expect, test } from 'vitest';
import { bench, dfu, ManualClock, standard, turn } from './sim-bench.ts';

const BYTES = Uint8Array.of(1, 2, 3, 4);
const NONE = new Uint8Array(0);

describe('the descriptors of a virtual Photon', () => {
  async function descriptor(value: number, index = 0, spec = {}): Promise<Buffer | 'stall'> {
    const { host } = await bench(spec);
    const reply = await host.in(standard(6, value, index), 255);
    return reply.kind === 'ok' ? Buffer.from(reply.data) : 'stall';
  }

  async function text(index: number, spec = {}): Promise<string> {
    const bytes = await descriptor(0x300 | index, 0x0409, spec);
    return bytes === 'stall' ? 'stall' : bytes.toString('utf16le', 2);
  }

  test('name vendor, product and release', async () => {
    const bytes = await descriptor(0x100);
    expect(bytes.toString('hex')).toBe('1201000200000040042b06d0500201020301');
  });

  test('an old bootloader says release 0x0200 and the serial that all of them have', async () => {
    const bytes = await descriptor(0x100, 0, { bootloader: 'old' });
    expect((bytes as Buffer).readUInt16LE(12)).toBe(0x0200);
    expect(await text(3, { bootloader: 'old' })).toBe('00000000010C');
  });

  test('a new bootloader has the device ID as serial, in upper or lower case', async () => {
    expect(await text(3)).toBe('0123456789ABCDEF01234567');
    expect(await text(3, { serialCase: 'lower' })).toBe('0123456789abcdef01234567');
  });

  test('the DFU functional descriptor stands at the end of the configuration', async () => {
    const bytes = (await descriptor(0x200)) as Buffer;
    expect(bytes.readUInt16LE(2)).toBe(bytes.length);
    expect(bytes.subarray(-9).toString('hex')).toBe('09210bff0000101a01');
  });

  test('the alternate settings have the names of the vendor, and a P1 has a third', async () => {
    expect(await text(6)).toBe('@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg');
    expect(await text(7)).toBe('@DCT Flash   /0x00000000/01*016Kg');
    expect(await text(8)).toBe('stall');
    expect(await text(8, { platform: 'p1' })).toMatch(/^@Serial Flash/);
    expect((await descriptor(0x200, 0, { platform: 'p1' })).length).toBe(9 + 3 * 9 + 9);
  });

  test('string 0 names en-US; a device qualifier and another language stall', async () => {
    expect((await descriptor(0x300)).toString('hex')).toBe('04030904');
    expect(await descriptor(0x600)).toBe('stall');
    expect(await descriptor(0x303, 0x0407)).toBe('stall');
  });

  test('a shorter wLength gets the front of a descriptor', async () => {
    const { host } = await bench();
    expect(await host.in(standard(6, 0x100), 8)).toMatchObject({ kind: 'ok', data: { length: 8 } });
  });
});

describe('DNLOAD', () => {
  test('with data is taken in states 2 and 5 only', async () => {
    const { host } = await bench();
    expect(await host.download(2, BYTES)).toBe('ok');
    expect(await host.download(3, BYTES)).toBe('stall');
    await host.abort();
    await host.upload(2, 4);
    expect(await host.status()).toBe('9/0');
    expect(await host.download(2, BYTES)).toBe('stall');
  });

  test('stores only: the write happens inside the GETSTATUS that follows', async () => {
    const clock = new ManualClock();
    const { host, photon } = await bench({ writeMs: 600 }, { clock });
    await host.select(1);
    await host.point(34);
    await host.download(2, BYTES);
    const status = host.status();
    await clock.advance(599);
    expect(photon.record.writes[1]).toBe(0);
    await clock.advance(1);
    expect(await status).toBe('4/0 poll 1');
    expect(await host.status()).toBe('5/0 poll 1');
    expect(photon.record.writes[1]).toBe(1);
  });

  test('of block 1 is dropped without an error', async () => {
    const { host, photon } = await bench();
    expect(await host.download(1, BYTES)).toBe('ok');
    expect([await host.status(), await host.status()]).toEqual(['4/0', '5/0']);
    expect(photon.record.writes).toEqual([0, 0, 0]);
  });

  test('of block n goes to pointer + (n - 2) * 4096, whatever its length', async () => {
    const { host } = await bench();
    await host.point(0x080a0000);
    await host.download(5, BYTES);
    await host.status();
    await host.status();
    await host.abort();
    expect([...(await host.read(0x080a3000, 5))]).toEqual([1, 2, 3, 4, 0xff]);
  });

  test('of more than 4096 bytes is a violation: the bootloader crashes and vanishes', async () => {
    const { host, photon, departures } = await bench();
    expect(await host.download(2, new Uint8Array(4097))).toBe('gone');
    expect(departures).toEqual(['crashed']);
    expect(photon.record.violations).toEqual([expect.stringContaining('4097 bytes')]);
  });

  test.each([
    ['an unknown command', [0x55]],
    ['a pointer that is cut short', [0x21, 0, 0]],
    ['get-commands with more behind it', [0x00, 1]],
  ])('of block 0 with %s stalls the GETSTATUS, and the next one says OK', async (_, bytes) => {
    const { host } = await bench();
    await host.download(0, Uint8Array.from(bytes));
    expect([await host.status(), await host.status()]).toEqual(['stall', '5/0']);
  });
});

describe('a failed write', () => {
  test('stalls its GETSTATUS, and the next one says OK as after a good one', async () => {
    const { host } = await bench();
    await host.point(0x08000000);
    await host.download(2, BYTES);
    expect([await host.status(), await host.status()]).toEqual(['stall', '5/0']);
  });

  test('is what a host gets for bootloader and DCT copies over alternate setting 0', async () => {
    const { host } = await bench();
    for (const address of [0x08000000, 0x08004000, 0x08008000, 0x0800c000, 0x0801fffc, 0x07fffffc, 0x08100000]) {
      expect(await host.write(address, BYTES)).toBe('stall');
      expect(await host.erase(address)).toBe('stall');
      await host.abort();
    }
  });

  test('is a write over what was not erased: bits only fall', async () => {
    const { host } = await bench();
    expect(await host.write(0x080a0000, Uint8Array.of(0xf0, 0, 0, 0))).toBe('4/0');
    expect(await host.write(0x080a0000, Uint8Array.of(0x0f, 0, 0, 0))).toBe('stall');
    expect((await host.read(0x080a0000, 1))[0]).toBe(0);
    expect(await host.erase(0x080b0000)).toBe('4/0');
    await host.abort();
    expect((await host.read(0x080a0000, 1))[0]).toBe(0xff);
  });
});

describe('UPLOAD', () => {
  test('of block 0 gives the three commands', async () => {
    const { host } = await bench();
    expect(await host.upload(0, 64)).toEqual(Uint8Array.of(0x00, 0x21, 0x41));
  });

  test('of block 1 stalls and leaves the illegal state 15, which CLRSTATUS twice cures', async () => {
    const { host } = await bench();
    expect(await host.upload(1, 64)).toBe('stall');
    expect(await host.status()).toBe('15/0');
    await host.abort();
    expect(await host.status()).toBe('15/0');
    await host.clearStatus();
    expect(await host.status()).toBe('10/14');
    await host.clearStatus();
    expect(await host.status()).toBe('2/0');
  });

  test('is refused in state 5: a set pointer needs an ABORT first', async () => {
    const { host } = await bench();
    await host.point(0x08020000);
    expect(await host.upload(2, 4)).toBe('stall');
  });

  test('out of range gives zeros without an error', async () => {
    const { host } = await bench();
    expect(await host.read(0x20000000, 8)).toEqual(Buffer.alloc(8));
    await host.select(1);
    expect(await host.read(0x4000, 8)).toEqual(Buffer.alloc(8));
  });

  test('on alternate setting 0 reads all of flash, both raw copies of the DCT among it', async () => {
    const { host } = await bench();
    const copy = await host.read(0x08004000, 0x4000);
    expect(copy.toString('latin1', 7548 + 3618, 7548 + 3630)).toBe(
      Buffer.from('0123456789abcdef01234567', 'hex').toString('latin1'),
    );
    expect(copy.includes('WIFI-SECRET-')).toBe(true);
    expect((await host.read(0x080ffffc, 4)).length).toBe(4);
  });

  test('across the end of flash hangs the device until it is replugged', async () => {
    const { host, photon } = await bench();
    await host.point(0x080ffffc);
    await host.abort();
    const cancel = new AbortController();
    const reply = host.in(dfu(2, 2), 8, cancel.signal);
    await turn();
    cancel.abort();
    expect(await reply).toEqual({ kind: 'cancelled' });
    const second = new AbortController();
    const status = host.status(second.signal);
    await turn();
    second.abort();
    expect(await status).toBe('cancelled');
    photon.powerOff();
    photon.powerOn();
    expect(await host.status()).toBe('2/0');
  });
});

describe('the pointer', () => {
  test('starts at 0x08020000', async () => {
    const { host } = await bench();
    const first = await host.upload(2, 24);
    await host.abort();
    expect(Buffer.from(first as Uint8Array)).toEqual(await host.read(0x08020000, 24));
  });

  test('survives ABORT, another alternate setting and a reset of the bus', async () => {
    const { host, photon } = await bench();
    await host.select(1);
    await host.point(3618);
    await host.abort();
    await host.select(0);
    await photon.busReset();
    await host.select(1);
    expect(Buffer.from((await host.upload(2, 12)) as Uint8Array).toString('hex')).toBe('0123456789abcdef01234567');
  });

  test('takes any value, and the erase command sets it too', async () => {
    const { host } = await bench();
    expect(await host.point(0xdeadbeef)).toBe('4/0');
    await host.select(1);
    await host.erase(3618);
    await host.abort();
    expect(Buffer.from((await host.upload(2, 12)) as Uint8Array).toString('hex')).toBe('0123456789abcdef01234567');
  });
});

describe('bwPollTimeout', () => {
  test('is 500 for an erase of the DCT and 1 for its other commands, if the pointer was in the DCT before', async () => {
    const { host } = await bench();
    await host.select(1);
    // The pointer still is the flash's, so nothing is set.
    expect(await host.point(34)).toBe('4/0');
    expect(await host.point(34)).toBe('4/0 poll 1');
    expect(await host.erase(34)).toBe('4/0 poll 500');
  });

  test('sticks: 500 follows into what comes after, until a command sets it', async () => {
    const { host } = await bench();
    await host.select(1);
    await host.point(34);
    await host.erase(34);
    expect(await host.status()).toBe('5/0 poll 500');
    await host.abort();
    expect(await host.status()).toBe('2/0 poll 500');
    await host.select(0);
    expect(await host.point(0x08020000)).toBe('4/0 poll 500');
    expect(await host.point(0x08020000)).toBe('4/0');
  });
});

describe('the states', () => {
  test('CLRSTATUS outside dfuERROR puts the device into dfuERROR, and ABORT does nothing there', async () => {
    const { host } = await bench();
    expect(await host.clearStatus()).toBe('ok');
    expect(await host.status()).toBe('10/14');
    expect(await host.abort()).toBe('ok');
    expect(await host.status()).toBe('10/14');
    await host.clearStatus();
    expect(await host.status()).toBe('2/0');
  });

  test('ABORT leads from 3, 5 and 9 to idle', async () => {
    const { host } = await bench();
    await host.download(2, BYTES);
    await host.abort();
    expect(await host.status()).toBe('2/0');
    await host.point(0);
    await host.abort();
    expect(await host.status()).toBe('2/0');
    await host.upload(2, 4);
    await host.abort();
    expect(await host.status()).toBe('2/0');
  });

  test('GETSTATE tells the state and changes nothing, and carries no block out (DFU 1.1, 6.1.5)', async () => {
    const { host, photon } = await bench();
    await host.select(1);
    await host.point(1762);
    await host.download(2, BYTES);
    expect(await host.state()).toBe(3);
    expect(await host.state()).toBe(3);
    expect(photon.record.writes[1]).toBe(0);
    expect(await host.status()).toBe('4/0 poll 1');
    expect(photon.record.writes[1]).toBe(1);
    expect(await host.state()).toBe(3);
    expect(await host.status()).toBe('5/0 poll 1');
    expect(await host.state()).toBe(5);
    await host.abort();
    expect([...(await host.read(1762, 4))]).toEqual([...BYTES]);
  });

  test.each([2, 5, 6, 9, 10, 15])('GETSTATE leaves state %i as it is', async startState => {
    const { host } = await bench({ startState });
    expect([await host.state(), await host.state()]).toEqual([startState, startState]);
    expect(await host.status()).toMatch(new RegExp(`^${startState}/`));
  });

  test('ABORT in state 3 discards the block, or the command, that is stored and not yet carried out', async () => {
    const { host, photon } = await bench();
    await host.select(1);
    await host.point(1762);
    await host.download(2, BYTES);
    await host.abort();
    expect(await host.status()).toBe('2/0');
    await host.download(0, Uint8Array.of(0x21, 34, 0, 0, 0));
    await host.abort();
    expect(await host.status()).toBe('2/0');
    expect(Buffer.from((await host.upload(2, 4)) as Uint8Array).toString('hex')).toBe('ffffffff');
    expect([photon.record.writes[1], photon.dctRewrites]).toEqual([0, 0]);
  });

  test('a device found in dfuERROR takes nothing but CLRSTATUS', async () => {
    const { host } = await bench({ startState: 10 });
    expect([await host.download(2, BYTES), await host.upload(2, 4), await host.status()]).toEqual([
      'stall',
      'stall',
      '10/14',
    ]);
    await host.clearStatus();
    expect(await host.status()).toBe('2/0');
  });

  test('a device found in dfuUPLOAD-IDLE goes on with the upload, takes no DNLOAD, and ABORT makes it idle', async () => {
    const { host } = await bench({ startState: 9 });
    expect(await host.upload(2, 4)).toHaveLength(4);
    expect([await host.download(2, BYTES), await host.status()]).toEqual(['stall', '9/0']);
    await host.abort();
    expect([await host.status(), await host.download(2, BYTES)]).toEqual(['2/0', 'ok']);
  });

  test('a device found in the illegal state 15 stalls DNLOAD and UPLOAD, ignores ABORT, and CLRSTATUS twice cures it', async () => {
    const { host } = await bench({ startState: 15 });
    expect([await host.download(2, BYTES), await host.upload(2, 4), await host.abort()]).toEqual([
      'stall',
      'stall',
      'ok',
    ]);
    expect(await host.status()).toBe('15/0');
    await host.clearStatus();
    expect(await host.status()).toBe('10/14');
    await host.clearStatus();
    expect(await host.status()).toBe('2/0');
  });

  test('SET_FEATURE to a port is a reset for PORT_RESET, and a stall for anything else', async () => {
    const { host } = await bench({ startState: 9 });
    const feature = (value: number) =>
      ({ requestType: 'class', recipient: 'other', request: 3, value, index: 1 }) as const;
    expect([await host.out(feature(8), NONE), await host.state()]).toEqual([{ kind: 'stall' }, 9]);
    expect([await host.out(feature(4), NONE), await host.state()]).toEqual([{ kind: 'ok', data: NONE }, 2]);
  });

  test('a reset of the bus leads to idle and alternate setting 0', async () => {
    const { host, photon } = await bench();
    await host.select(1);
    await host.clearStatus();
    await photon.busReset();
    expect(photon.dfuState).toBe(2);
    const setup = { requestType: 'standard', recipient: 'interface', request: 10, value: 0, index: 0 } as const;
    expect(await host.in(setup, 1)).toEqual({ kind: 'ok', data: Uint8Array.of(0) });
  });

  test('SET_CONFIGURATION to the current one does nothing; to none and back makes DFU idle', async () => {
    const { host } = await bench();
    await host.clearStatus();
    await host.out(standard(9, 1), NONE);
    expect(await host.status()).toBe('10/14');
    await host.out(standard(9, 0), NONE);
    expect(await host.status()).toBe('stall');
    await host.out(standard(9, 1), NONE);
    expect(await host.status()).toBe('2/14');
  });
});

describe('leaving', () => {
  async function leaving(bootloader: 'new' | 'old') {
    const clock = new ManualClock();
    const made = await bench({ bootloader }, { clock });
    return { clock, ...made };
  }

  test.each([
    ['new', '5/0'],
    ['old', '7/0'],
  ] as const)('a %s bootloader reports %s, answers state 8 for 500 ms, and vanishes', async (bootloader, reported) => {
    const { clock, host, departures, photon } = await leaving(bootloader);
    expect(await host.download(0, NONE)).toBe('ok');
    expect(await host.status()).toBe(reported);
    expect(await host.status()).toBe('8/0');
    expect(await host.download(2, BYTES)).toBe('stall');
    expect(await host.upload(2, 4)).toBe('stall');
    await clock.advance(499);
    expect(photon.onBus).toBe(true);
    await clock.advance(1);
    expect(departures).toEqual(['left']);
    expect(await host.status()).toBe('gone');
  });

  test('needs the GETSTATUS: without it nothing happens', async () => {
    const { clock, host, departures } = await leaving('new');
    await host.download(0, NONE);
    await clock.advance(10_000);
    expect(departures).toEqual([]);
    await host.abort();
    expect(await host.status()).toBe('2/0');
    expect(clock.sleeping).toBe(0);
  });
});
