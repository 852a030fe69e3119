import { createPrivateKey, createPublicKey } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { makeModule } from '#src/sim/photon-modules.ts';
import { bench, dfu, turn } from './sim-bench.ts';

/** A photon with alternate setting 1 selected. */
async function dctBench(...options: Parameters<typeof bench>) {
  const made = await bench(...options);
  await made.host.select(1);
  return made;
}

function dots(count: number): Uint8Array {
  return new Uint8Array(count).fill(0x2e);
}

describe('the DCT', () => {
  test('holds key, server key, address block and device ID where the firmware looks for them', async () => {
    const { host } = await dctBench({ keys: 'made' });
    const dct = await host.read(0, 8820);
    const key = createPrivateKey({ key: dct.subarray(34, 34 + 612), format: 'der', type: 'pkcs1' });
    const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
    expect(dct.subarray(1250, 1250 + spki.length).equals(spki)).toBe(true);
    expect(dct.subarray(1250 + 162, 1634).every(byte => byte === 0xff)).toBe(true);
    const server = createPublicKey({ key: dct.subarray(2082, 2082 + 294), format: 'der', type: 'spki' });
    expect(server.asymmetricKeyDetails).toMatchObject({ modulusLength: 2048, publicExponent: 65537n });
    expect(dct.toString('latin1', 2082 + 384, 2082 + 384 + 17)).toBe('\x01\x0fdevice.spark.io');
    expect(dct.readUInt16BE(2082 + 450)).toBe(0xffff);
    expect(dct.toString('hex', 3618, 3630)).toBe('0123456789abcdef01234567');
  });

  test('of a device whose firmware never wrote its ID has 0xFF there', async () => {
    const { host } = await dctBench({ idInDct: false });
    expect((await host.read(3618, 12)).every(byte => byte === 0xff)).toBe(true);
  });

  test('takes a block at any alignment and length, and rewrites one sector for it', async () => {
    const { host, photon } = await dctBench();
    expect(await host.write(1763, dots(61))).toBe('4/0 poll 1');
    expect((await host.read(1762, 63)).toString('latin1')).toBe(`\xff${'.'.repeat(61)}\xff`);
    expect(photon.dctRewrites).toBe(1);
  });

  test('an erase does nothing', async () => {
    const { host, photon } = await dctBench();
    const before = await host.read(0, 8820);
    expect(await host.erase(0)).toBe('4/0 poll 1'.replace('1', '500'));
    await host.abort();
    expect((await host.read(0, 8820)).equals(before)).toBe(true);
    expect(photon.dctRewrites).toBe(0);
  });

  test('changes its version block with every write, and bytes 0 to 31 by itself, and nothing else', async () => {
    const { host } = await dctBench();
    const before = await host.read(0, 8836);
    await host.write(1762, before.subarray(1762, 1763));
    const after = await host.read(0, 8836);
    expect(after.subarray(8820).equals(before.subarray(8820))).toBe(false);
    expect(after.subarray(0, 32).equals(before.subarray(0, 32))).toBe(false);
    expect(after.subarray(32, 8820).equals(before.subarray(32, 8820))).toBe(true);
  });

  test('read from 8836 on shows the neighbouring sector with its secrets, another one after each write', async () => {
    const { host } = await dctBench();
    const first = await host.read(8836, 512);
    await host.write(1762, dots(1));
    const second = await host.read(8836, 512);
    expect(first.includes('WIFI-SECRET-')).toBe(true);
    expect(second.includes('WIFI-SECRET-')).toBe(true);
    expect(first.equals(second)).toBe(false);
  });

  test('stalls a write that ends past 8836, and keeps what it holds', async () => {
    const { host, photon } = await dctBench();
    expect(await host.write(8830, dots(7))).toBe('stall');
    expect(photon.record.violations).toEqual([]);
    expect(photon.dctRewrites).toBe(0);
  });

  test('takes a write that ends at 8820', async () => {
    const { host, photon } = await dctBench();
    expect(await host.write(8810, dots(10))).toBe('4/0 poll 1');
    expect(photon.record.violations).toEqual([]);
  });

  test.each([8821, 8836])('is destroyed by a write that ends at %i', async end => {
    const { host, photon } = await dctBench();
    await host.write(end - 4, dots(4));
    expect(photon.record.violations).toEqual([expect.stringContaining('DCT destroyed')]);
    expect((await host.read(34, 100)).every(byte => byte === 0xff)).toBe(true);
  });

  test('is rewritten in the other copy, so the raw copies take turns', async () => {
    const { host } = await dctBench();
    await host.write(1762, dots(3));
    await host.select(0);
    expect((await host.read(0x08008000 + 7548 + 1762, 3)).toString()).toBe('...');
    expect((await host.read(0x08004000 + 7548 + 1762, 3)).every(byte => byte === 0xff)).toBe(true);
  });
});

describe('a Photon with broken system parts', () => {
  test('reads its DCT as zeros with OK, and stalls writes', async () => {
    const { host, photon } = await dctBench({ systemParts: 'broken' });
    expect((await host.read(0, 4096)).every(byte => byte === 0)).toBe(true);
    expect(await host.write(34, dots(8))).toBe('stall');
    expect(photon.dctRewrites).toBe(0);
    await host.select(0);
    expect((await host.read(0x08004000 + 7548 + 3618, 2)).toString('hex')).toBe('0123');
  });

  test('is cured by flashing the part, but only after a reset', async () => {
    const { host, photon } = await bench({ systemParts: 'broken' });
    const part = makeModule({ start: 0x08060000, sizeBytes: 8192, platform: 'photon', fn: 4, index: 2, version: 300 });
    await host.erase(0x08060000);
    await host.abort();
    for (let at = 0; at < part.length; at += 4096) {
      expect(await host.write(0x08060000 + at, part.subarray(at, at + 4096))).toBe('4/0');
    }
    await host.select(1);
    expect((await host.read(3618, 12)).every(byte => byte === 0)).toBe(true);
    photon.powerOff();
    photon.powerOn();
    await host.select(1);
    expect((await host.read(3618, 12)).toString('hex')).toBe('0123456789abcdef01234567');
  });

  test('with an old bootloader reads its DCT all the same', async () => {
    const { host } = await dctBench({ systemParts: 'broken', bootloader: 'old' });
    expect((await host.read(3618, 2)).toString('hex')).toBe('0123');
  });

  test('hangs when the DCT is touched after system-part2 was erased and nothing written there', async () => {
    const { host, photon } = await bench();
    await host.erase(0x08060000);
    await host.abort();
    await host.select(1);
    const reply = host.in(dfu(2, 2), 16);
    await turn();
    photon.powerOff();
    expect(await reply).toEqual({ kind: 'gone' });
  });
});
