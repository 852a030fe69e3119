import { BlockList, isIP } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSocketName, parseCloudUrl, parseMaxFail, parseProductId, parseRack } from '#src/config/parsers.ts';
import { createCloudClient } from '#src/cloud/client.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import { isLoopback, parseServerHost } from '#src/core/hosts.ts';
import { printable } from '#src/core/printable.ts';
import { Secret } from '#src/core/secret.ts';
import { comparePaths, hubOf, onRack, parseUsbPath } from '#src/core/usb-path.ts';
import { applyServerChange } from '#src/job/server-change.ts';
import { DCT } from '#src/photon/dct.ts';
import { parseFault, strikes } from '#src/sim/rack-faults.ts';
import { FaultPlan, parseCloudFault } from '#src/sim/virtual-cloud-faults.ts';
import { endOf, expectCode, fuzz, mutated, PRINTABLE, textOf, written } from '../support/fuzz.ts';

const ID = '3b0047000347343138333738';

/** Texts of such words, and such texts with something changed. */
function texts(words: readonly string[], good: readonly string[]): fc.Arbitrary<string> {
  const changed = fc.constantFrom(...good).chain(text => mutated(Buffer.from(text), words));
  return fc.oneof(
    { weight: 4, arbitrary: textOf(words, 12) },
    { weight: 4, arbitrary: changed.map(bytes => bytes.toString('utf8')) },
    { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 30 }) },
  );
}

const SPACES = [' ', '\t', '\n', '\u00a0', '\ufeff', '\0', '\u001b[31m', '\u202e', '\ud800', '\u212a', '\u0130', 'ß'];

test('a device ID of any text is 24 hexadecimal digits, and itself again, or none', async () => {
  await fuzz(
    texts([...SPACES, ID, ID.slice(0, 12), '0', 'a', 'F', 'g', '-', '٣'], [ID, ID.toUpperCase(), ` ${ID}\n`]),
    3000,
    text => {
      const id = parseDeviceId(text);
      expect(id !== null).toBe(/^[0-9a-f]{24}$/i.test(text.trim()));
      if (id !== null) expect([parseDeviceId(id), id]).toEqual([id, text.trim().toLowerCase()]);
    },
  );
});

test('a USB path of any text is itself again, and hangs on a hub, or is none', async () => {
  const good = ['3-1.4', '1-2.3.4.5.6.7.8', 'rack:3240/1-2', '[::1]:3240/1-2.3', ' 9999-255 '];
  await fuzz(
    texts([...SPACES, '1', '0', '-', '.', '/', ':', '3-1', '.4', '[::1]', 'rack:1/', '255'], good),
    3000,
    text => {
      const path = parseUsbPath(text);
      if (path === null) return;
      expect([parseUsbPath(path), path]).toEqual([path, text.trim()]);
      const local = path.slice(path.lastIndexOf('/') + 1);
      expect(local).toMatch(/^\d{1,4}-\d{1,3}(\.\d{1,3}){0,6}$/);
      const hub = hubOf(path);
      const root = /^(.*\/)?usb\d{1,4}$/s.test(hub);
      expect(root || path.startsWith(`${hub}.`)).toBe(true);
      expect(comparePaths(path, path)).toBe(0);
      if (local === path) expect(parseUsbPath(onRack('[::1]:3240', path))).toBe(`[::1]:3240/${path}`);
    },
  );
});

test("a server's host of any text fits into the address block of a DCT, or is none", async () => {
  const good = ['10.0.0.1', 'device.spark.io', 'a-b.example.org', 'x'.repeat(63)];
  await fuzz(
    texts([...SPACES, 'a', '-', '.', '1', '255', '256', 'a-', '-a', '_', '*', '::1', 'xn--'], good),
    3000,
    text => {
      const host = parseServerHost(text);
      if (host === null) return;
      expect(parseServerHost(host)).toBe(host);
      expect(host).toMatch(/^[a-z0-9.-]{1,63}$/);
      expect(isIP(host) === 4).toBe(/(^|\.)\d+$/.test(host)); // no mistyped address
      const dct = Buffer.alloc(DCT.LENGTH, 0x5a);
      applyServerChange(dct, { key: 'keep', host, port: null });
      const { offset, length } = DCT.SERVER_ADDRESS;
      const [type, size = 0] = dct.subarray(offset);
      const octets = [...dct.subarray(offset + 2, offset + 2 + size)];
      const there = type === 0 ? octets.join('.') : Buffer.from(octets).toString('ascii');
      expect([type, there]).toEqual([isIP(host) === 4 ? 0 : 1, host]);
      dct.fill(0x5a, offset, offset + length);
      expect(dct.every(byte => byte === 0x5a)).toBe(true);
    },
  );
});

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

test('an address that counts as this machine is one, and every other text is no reason to stop', async () => {
  const good = [
    '127.0.0.1',
    '::1',
    '[::1]',
    'localhost',
    'x.localhost',
    '::ffff:127.0.0.1',
    '10.0.0.1',
    '[fe80::1]',
    '2130706433',
  ];
  await fuzz(
    texts([...SPACES, '127', '.0', '.1', '.', '[', ']', ':', '::ffff:', 'localhost', '.localhost', '%lo'], good),
    3000,
    text => {
      if (!isLoopback(text)) return;
      const bare = text.replace(/^\[(.*)\]$/, '$1');
      const family = isIP(bare);
      if (family > 0) expect(loopback.check(bare, family === 4 ? 'ipv4' : 'ipv6')).toBe(true);
      else expect(bare.toLowerCase()).toMatch(/(^|\.)localhost$|^(::ffff:)?127(\.\d{1,3}){3}$/);
    },
  );
});

test('a rack, a product, a limit of failures and the name of a socket of any text keep to their forms, or are none', async () => {
  const words = [
    ...SPACES,
    '[::1]',
    'rack',
    ':',
    '3240',
    '0',
    '65536',
    '%',
    '5',
    '.5',
    '-',
    '_',
    ',',
    '"',
    'A-01',
    '3-1.4',
  ];
  await fuzz(texts(words, ['rack-pi:3240', '[::1]:3240', '10%', '12345', 'A-01', '[fe80::1]:1']), 3000, text => {
    const rack = parseRack(text);
    if (rack !== null) {
      expect(parseRack(rack)).toBe(rack);
      expect(rack).toMatch(/^(\[[0-9a-f:.]+\]|[a-z0-9_.-]+):\d{1,5}$/);
      expect(parseUsbPath(onRack(rack, parseUsbPath('1-2.3')!))).toBe(`${rack}/1-2.3`);
    }
    const product = parseProductId(text);
    if (product !== null) expect([parseProductId(product), /^[\w-]{1,100}$/.test(product)]).toEqual([product, true]);
    const most = parseMaxFail(text);
    if (most && 'percent' in most) expect(most.percent >= 0 && most.percent <= 100).toBe(true);
    else if (most) expect(Number.isInteger(most.count) && most.count >= 0).toBe(true);
    if (isSocketName(text)) expect([PRINTABLE.test(text), text.trim(), parseUsbPath(text)]).toEqual([true, text, null]);
  });
});

test('a URL of the cloud of any text is one that the client takes, or none', async () => {
  const good = [
    'https://api.particle.io',
    'http://[::1]:8080/base/',
    'HTTPS://User:pw@x.org/',
    'http://127.0.0.1:1',
    'https://münchen.example/ä',
  ];
  const words = [
    ...SPACES,
    'http://',
    'https:',
    '/',
    '//',
    '\\',
    '@',
    ':',
    '?',
    '#',
    '%00',
    '%zz',
    '..',
    '[',
    '0x7f.1',
    'localhost',
    ':99999',
  ];
  await fuzz(texts(words, good), 2500, text => {
    const url = parseCloudUrl(text);
    if (url === null) return;
    expect(parseCloudUrl(url)).toBe(url);
    expect(url).toMatch(/^https?:\/\/[\x21-\x7e]+$/);
    const { username, password, search, hash } = new URL(url);
    expect([username, password, search, hash]).toEqual(['', '', '', '']);
    const end = endOf(() => createCloudClient({ url, token: new Secret('t'), timeoutMs: 1000, insecure: false }));
    if ('fault' in end) {
      expectCode(end.fault, 'CLOUD_INSECURE');
      expect(url).toMatch(/^http:/);
    }
  });
});

const KINDS = ['write-stall', 'hang', 'unplug', 'start-state', 'serial', 'same-id', 'p1', 'constructor', '__proto__'];
const CLOUD_KINDS = ['down', 'lost', 'html', 'late', 'status', 'retry-after', 'toString', ''];
const ARGUMENTS = [
  '',
  '0',
  '1',
  '199',
  '200',
  '256',
  '599',
  '600',
  '600001',
  '1000001',
  '01',
  'write',
  'getstatus',
  ID,
];

/** A fault as it is written, of parts that may not fit together. */
function faults(devices: readonly string[], kinds: readonly string[]): fc.Arbitrary<string> {
  const rest = fc.array(fc.constantFrom(...ARGUMENTS), { maxLength: 3 });
  return fc
    .tuple(fc.constantFrom(...devices), fc.constantFrom(...kinds), rest)
    .map(([device, kind, words]) => device + [kind, ...words].join(':'));
}

const FAULT_WORDS = [...SPACES, ...KINDS, ...ARGUMENTS, ':', '*', '#1', '#0', '#999999', '1-1.1', '-1', '1e3'];

test('a fault of a rack of any text strikes a device, or is USAGE', async () => {
  const good = ['#1:write-stall:2', '*:hang:getstatus', `${ID}:serial:x:y`, '1-1.1:start-state:10', `#1:same-id:${ID}`];
  const device = { index: 1, busId: '1-1.1', deviceId: parseDeviceId(ID)! };
  await fuzz(fc.oneof(texts(FAULT_WORDS, good), faults(['*:', '#1:', `${ID}:`, '1-1.1:', ''], KINDS)), 3000, text => {
    const end = endOf(() => parseFault(text));
    if ('fault' in end) {
      expectCode(end.fault, 'USAGE');
      return;
    }
    const { effect } = end.value;
    expect(end.value.text).toBe(text);
    expect(typeof strikes(end.value, device)).toBe('boolean');
    expect([effect.change, effect.behaviour].filter(each => each !== undefined)).toHaveLength(1);
    effect.behaviour?.();
  });
});

test('a fault of the virtual cloud of any text can be planned, or is USAGE', async () => {
  const words = [...FAULT_WORDS, ...CLOUD_KINDS, 'device'];
  const good = ['status:429:3', 'html:502', 'late:100', `device:${ID}:retry-after:7:2`, 'down'];
  await fuzz(fc.oneof(texts(words, good), faults(['', '', `device:${ID}:`, 'device:'], CLOUD_KINDS)), 3000, text => {
    const end = endOf(() => parseCloudFault(text));
    if ('fault' in end) {
      expectCode(end.fault, 'USAGE');
      return;
    }
    const fault = end.value;
    const plan = new FaultPlan([fault]);
    expect(plan.isDown).toBe(fault.kind === 'down' && fault.device === null);
    for (const number of Object.values(fault).filter(each => typeof each === 'number')) {
      expect(Number.isInteger(number) && number >= 0 && number <= 1_000_000).toBe(true);
    }
  });
});

test('a text that goes on and on is read as soon as any other', async () => {
  const word = fc.constantFrom(...FAULT_WORDS, '1', '.1', 'a-', 'a.', ':', '/', '[', '127.', '5', '@', 'https://');
  const long = fc.array(fc.tuple(word, fc.constantFrom(1, 1, 3, 20_000)), { maxLength: 4 });
  await fuzz(long, 200, parts => {
    const text = written(parts);
    for (const parse of [
      parseDeviceId,
      parseUsbPath,
      parseServerHost,
      parseRack,
      parseMaxFail,
      parseProductId,
      parseCloudUrl,
    ]) {
      parse(text);
    }
    for (const ask of [isLoopback, isSocketName]) ask(text);
    for (const parse of [parseFault, parseCloudFault]) endOf(() => parse(text));
  });
});

test('any text is made printable, and no longer than it may be', async () => {
  await fuzz(fc.tuple(texts([...SPACES, '😀'], ['x']), fc.integer({ min: 1, max: 300 })), 2000, ([text, most]) => {
    const shown = printable(text, most);
    expect(Array.from(shown).length).toBeLessThanOrEqual(most);
    expect(shown).toMatch(PRINTABLE);
  });
});
