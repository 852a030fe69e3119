import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseDeviceId } from '#src/core/device-id.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { identityFileOf, readIdentity } from '#src/vault/identity-file.ts';
import { vaultOf } from '#src/vault/vault.ts';
import { breaches } from '../support/audit.ts';
import { Bench, csvOf, jsonLines, type Ended, type Served } from '../support/cli.ts';
import { dctInFolder } from '../support/flash-file.ts';

/** A disk that is full or can not be written, in earnest: a small file system of its own, which root alone may mount. */

const DEVICES = 3;

let bench: Bench;
let rack: Served;
let disk: string;
let db: string;
let firstKeys: readonly (string | null)[];

beforeEach(async () => {
  bench = new Bench();
  disk = bench.path('disk');
  db = join(disk, 'fleet.db');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'tmpfs', disk]);
  const flags = ['--count', String(DEVICES), '--hubs', '1', '--write-ms', '20', '--state', 'rack', '--keys', 'blank'];
  rack = await bench.serve(['rack', '--listen', '127.0.0.1:0', ...flags]);
  bench.file('rack.csv', csvOf(rack.devices));
  firstKeys = rack.devices.map((_, index) => keyOn(index));
});

afterEach(async () => {
  execFileSync('umount', ['--lazy', disk]);
  await bench[Symbol.asyncDispose]();
});

const dctOf = (index: number): Buffer => dctInFolder(bench.path('rack'), index + 1).dct;

function keyOn(index: number): string | null {
  return classifyPrivateKey(dctOf(index).subarray(34, 34 + 1216)).publicKey?.fingerprint ?? null;
}

function run(...more: string[]): Promise<Ended> {
  const args = ['--rack', rack.address, '--db', db, '--wait', '3', '--offline', '--concurrency', '2', '--json'];
  return bench.run(['run', 'rack.csv', ...args, ...more]);
}

/** Fills the disk until so many bytes are left. */
function fill(leaveBytes: number): void {
  const { bavail, bsize } = statfsSync(disk);
  writeFileSync(join(disk, 'filler'), Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes)));
}

const makeRoom = (): void => rmSync(join(disk, 'filler'));

/** One clear line with its code, a hint, and no stack. */
function expectOneLine(stderr: string, code: string): void {
  const lines = stderr.trimEnd().split('\n');
  expect(lines.filter(line => line.startsWith('error: '))).toHaveLength(1);
  expect(stderr).toContain(`[${code}]`);
  expect(lines.at(-1)).toMatch(/^hint: /);
  expect(stderr).not.toMatch(/^\s+at /m);
}

async function expectNothingLost(): Promise<void> {
  const identity = await readIdentity(identityFileOf(db));
  if (!identity) throw new Error('the station has no identity');
  const witnesses = rack.devices.map(({ deviceId }, index) => ({
    deviceId: parseDeviceId(deviceId)!,
    firstKey: firstKeys[index] ?? null,
    dct: dctOf(index),
    told: [],
    maxInFlight: 0,
  }));
  expect(await breaches(db, vaultOf(identity), witnesses)).toEqual([]);
}

describe('a disk that is full', () => {
  test.each([50])(
    'in the middle of a run, with %i KB left: it ends with 3, nothing is lost, and the next run finishes every row',
    async leftKb => {
      expect((await run('--limit', '1')).code).toBe(4);
      fill(leftKb * 1024);
      const cut = await run();
      expect(cut.code).toBe(3);
      expectOneLine(cut.stderr, 'DB_FAILED');
      makeRoom();
      await expectNothingLost();
      const ended = await run();
      const summary = jsonLines(ended.stdout).at(-1)!;
      expect(Number(summary['pass']) + Number(summary['skipped'])).toBe(DEVICES);
      expect(ended.code).toBe(4);
      await expectNothingLost();
      const keys = rack.devices.map((_, index) => keyOn(index));
      expect(keys.filter((key, index) => key === firstKeys[index])).toEqual([]);
    },
  );

  test('takes no copy of the record, and nothing of it is left', async () => {
    await run('--limit', '1');
    fill(16 * 1024);
    const { code, stderr } = await bench.run(['db', 'backup', join(disk, 'copy.db'), '--db', db]);
    expect(code).not.toBe(0);
    expectOneLine(stderr, 'DB_FAILED');
    expect(readdirSync(disk)).not.toContain('copy.db');
  });

  test('at the very first run: no device is touched, and no identity is left half made', async () => {
    fill(0);
    const { code, stderr } = await run();
    expect([2, 3]).toContain(code);
    expect(stderr).toMatch(/\[(DB_FAILED|DB_UNREADABLE|VAULT_IDENTITY)\]/);
    expect(readdirSync(disk).filter(name => name.includes('identity'))).toEqual([]);
    expect(rack.devices.map((_, index) => keyOn(index))).toEqual(firstKeys);
    makeRoom();
    expect((await run()).code).toBe(4);
    await expectNothingLost();
  });
});

test('a disk that can only be read: nothing is touched, exit 2', async () => {
  expect((await run('--limit', '1')).code).toBe(4);
  const before = rack.devices.map((_, index) => dctOf(index).toString('hex'));
  execFileSync('mount', ['-o', 'remount,ro', disk]);
  const { code, stderr } = await run();
  expect(code).toBe(2);
  expectOneLine(stderr, 'DB_UNREADABLE');
  expect(rack.devices.map((_, index) => dctOf(index).toString('hex'))).toEqual(before);
  execFileSync('mount', ['-o', 'remount,rw', disk]);
  expect((await run()).code).toBe(4);
  await expectNothingLost();
});
