import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createCloudClient } from '#src/cloud/client.ts';
import { loadConfig } from '#src/config/load-config.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import { isLoopback } from '#src/core/hosts.ts';
import { printable } from '#src/core/printable.ts';
import { Secret } from '#src/core/secret.ts';
import { parseUsbPath } from '#src/core/usb-path.ts';
import { readManifest } from '#src/manifest/read-manifest.ts';
import { createRack, type RackOptions } from '#src/sim/virtual-rack.ts';
import { endOf, endOfAsync, PRINTABLE } from '../support/fuzz.ts';
import { readJob, refusalOf, rekeyText } from '../support/job-text.ts';
import { tempFolder } from '../support/temp-folder.ts';

/*
 * The smallest inputs by which fuzzing found something wrong, each as it should be. One that is not mended yet is marked
 * `.fails`.
 */

let folder: ReturnType<typeof tempFolder>;
beforeEach(() => {
  folder = tempFolder();
});
afterEach(() => folder[Symbol.dispose]());

describe('the cloud client', () => {
  test('does not wait for ever for a damaged compressed body whose connection ends', async () => {
    const server = createServer(socket => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.end('HTTP/1.1 400 x\r\ncontent-encoding: gzip\r\n\r\n{}'));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
    const client = createCloudClient({ url, token: new Secret('token'), timeoutMs: 5000, insecure: false });
    const send = { deviceId: parseDeviceId('0'.repeat(24))!, publicKeyPem: '', productId: null, orderMs: 0 };
    try {
      // Which of the two is noticed first, the damage or the end, differs from time to time.
      for (let n = 0; n < 10; n += 1) {
        const late = new Promise(resolve => setTimeout(() => resolve('no end'), 60_000).unref());
        expect(await Promise.race([client.sendPublicKey(send), late])).toMatchObject({ kind: 'refused', status: 400 });
      }
    } finally {
      server.close();
    }
  });
});

describe('a job', () => {
  test('with a merge key among the options of a step is refused', () => {
    const end = endOf(() => readJob(rekeyText({ write: 'write: {!!merge <<: 1}' })));
    expect(end).toMatchObject({ fault: { code: 'JOB_INVALID' } });
  });

  test('whose options are a set, of which nothing is read, is refused', () => {
    expect(refusalOf(rekeyText({ write: 'write: !!set {server-key}' }))).toContain('Unresolved tag');
  });

  test('whose options have maps for names is refused in few words', () => {
    expect(refusalOf(rekeyText({ write: `write: ${'{? '.repeat(12)}${'}'.repeat(12)}` })).length).toBeLessThan(1000);
  });

  test('is refused in words that can go to a terminal', () => {
    expect(refusalOf('name: x\nsteps: ["\\e"]')).toMatch(PRINTABLE);
  });
});

/** How the program ends in the folder of this test; a signal where it was brought down. */
function endOfProgram(args: readonly string[], options: readonly string[] = []): unknown[] {
  const cli = new URL('../../dist/cli.js', import.meta.url).pathname;
  const { status, signal } = spawnSync(process.execPath, [...options, cli, ...args], { cwd: folder.path });
  return [status, signal];
}

/** Each line a level deeper than the one before. */
const STAIRS = Array.from({ length: 1000 }, (_, n) => `${' '.repeat(n)}-\n`).join('');

test.each([
  ['in stairs', STAIRS.repeat(2)],
  ['by colons', `${'- '.repeat(49)}${`${'a: '.repeat(2000)}\n`.repeat(2)}`],
  ['within its names', rekeyText({ write: `write: ${'{? '.repeat(26)}${'}'.repeat(26)}` })],
])('a job that is nested %s is refused, and the process lives on', (_, text) => {
  writeFileSync(folder.file('rack.csv'), `device_id\n${'0'.repeat(24)}\n`);
  writeFileSync(folder.file('job.yaml'), text);
  const args = ['run', 'rack.csv', '--plan', '--sim', '1', '--job', './job.yaml'];
  expect(endOfProgram(args, ['--max-old-space-size=100'])).toEqual([2, null]);
});

test('a manifest with tens of thousands of cells in a line is read as soon as any other of its length', async () => {
  writeFileSync(folder.file('rack.csv'), `device_id\n${'"",'.repeat(21_800)}\n`);
  const begun = performance.now();
  await endOfAsync(() => readManifest(folder.file('rack.csv')));
  expect(performance.now() - begun).toBeLessThan(10_000);
});

describe('a configuration', () => {
  const load = (text: string, flags = {}) => {
    writeFileSync(folder.file('config.yaml'), text);
    return loadConfig({ flags, env: {}, cwd: folder.path });
  };

  test('that is nested a thousand times over is refused, and the process lives on', () => {
    writeFileSync(folder.file('config.yaml'), `${'- '.repeat(1000)}\n`.repeat(2));
    expect(endOfProgram(['status'])).toEqual([2, null]);
  });

  test('whose flag is given twice is refused', () => {
    expect(endOf(() => load('', { config: ['a', 'b'] }))).toMatchObject({ fault: { code: 'CONFIG_INVALID' } });
  });

  test.each([
    '!!set {db}',
    '!!omap [db: x]',
    '!!timestamp 2001-01-01',
    'cloud: !!set {insecure}',
    'sockets: !!omap [A: 1-1]',
  ])('that is `%s`, of which nothing is read, is refused', text => {
    expect(endOf(() => load(text))).toMatchObject({ fault: { code: 'CONFIG_INVALID' } });
  });

  test('names a rack once, however its port is written', () => {
    expect(load('racks: ["a:1", "a:01"]').values.racks).toEqual(['a:1']);
  });
});

describe('the state folder of a rack', () => {
  const open = (options: Partial<RackOptions> = {}) =>
    createRack({ count: 1, hubs: 1, writeMs: 0, keys: 'blank', stateDir: folder.path, ...options });
  const DEVICE = {
    index: 1,
    busId: '1-1.1',
    deviceId: '0'.repeat(24),
    platform: 'photon',
    bootloader: 'new',
    serialCase: 'upper',
  };
  const list = (...devices: object[]): void => {
    writeFileSync(folder.file('rack.json'), JSON.stringify({ format: 'photon-fleet sim rack', version: 1, devices }));
  };

  test.each(['a.tmp', '0001-serial-00000000.bin', '0007-serial-00000000.bin'])(
    'with a folder of the name %s is SIM_STATE_INVALID',
    async name => {
      list(DEVICE);
      mkdirSync(folder.file(name));
      expect(await endOfAsync(open)).toMatchObject({ fault: { code: 'SIM_STATE_INVALID' } });
    },
  );

  test('with a file of somebody else is left as it is', async () => {
    writeFileSync(folder.file('mine.tmp'), '');
    expect(await endOfAsync(open)).toMatchObject({ fault: { code: 'SIM_STATE_INVALID' } });
  });

  test('with two devices in one socket is SIM_STATE_INVALID', async () => {
    list(DEVICE, { ...DEVICE, index: 2 });
    expect(await endOfAsync(open)).toMatchObject({ fault: { code: 'SIM_STATE_INVALID' } });
  });

  test('with two devices of one number is SIM_STATE_INVALID', async () => {
    list(DEVICE, { ...DEVICE, busId: '1-1.2' });
    expect(await endOfAsync(open)).toMatchObject({ fault: { code: 'SIM_STATE_INVALID' } });
  });

  test('with a device of another rack is SIM_STATE_INVALID', async () => {
    list({ ...DEVICE, busId: 'rack:1/1-1' });
    expect(await endOfAsync(open)).toMatchObject({ fault: { code: 'SIM_STATE_INVALID' } });
  });

  test('whose numbers are used up takes no more devices, and can still be opened', async () => {
    list({ ...DEVICE, index: 9999 });
    expect(await endOfAsync(() => open({ count: 2 }))).toMatchObject({ fault: { code: 'SIM_STATE_INVALID' } });
    const rack = await open();
    expect(await endOfAsync(() => rack.add())).toMatchObject({ fault: { code: 'SIM_STATE_INVALID' } });
    await rack.close();
    await (await open()).close();
  });
});

test('a USB path holds nothing that would move the cursor', () => {
  expect(parseUsbPath('\u001b:1/1-1')).toBeNull();
});

test('an address of another machine is not this one, whatever its zone is called', () => {
  expect(isLoopback('fe80::1%x.localhost')).toBe(false);
});

test('a text that is cut for the terminal is not cut within a character', () => {
  expect(printable('😀x', 2).isWellFormed()).toBe(true);
});
