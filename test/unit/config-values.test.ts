import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nearest } from '#src/config/nearest.ts';
import { isSocketName, parseCloudUrl, parseMaxFail, parseProductId, parseRack } from '#src/config/parsers.ts';
import { parseServerHost } from '#src/core/hosts.ts';

describe('the values of the configuration', () => {
  test.each([
    ['5', { count: 5 }],
    ['0', { count: 0 }],
    ['10%', { percent: 10 }],
    ['2.5%', { percent: 2.5 }],
    ['100%', { percent: 100 }],
    ['100.1%', null],
    ['2.5', null],
    ['-1', null],
    ['', null],
    ['5 %', null],
  ])('a limit of failures %j is %j', (text, expected) => {
    expect(parseMaxFail(text)).toEqual(expected);
  });

  test.each([
    ['bench:3240', 'bench:3240'],
    ['10.0.0.7:1', '10.0.0.7:1'],
    ['[FE80::1]:3240', '[fe80::1]:3240'],
    ['bench', null],
    ['bench:0', null],
    ['bench:65536', null],
    ['::1:3240', null],
    ['[nope]:3240', null],
    ['a/b:3240', null],
    [':3240', null],
  ])('a rack %j is %j', (text, expected) => {
    expect(parseRack(text)).toBe(expected);
  });

  test.each([
    ['https://api.particle.io/', 'https://api.particle.io'],
    ['http://127.0.0.1:8080/spark//', 'http://127.0.0.1:8080/spark'],
    ['https://user@host', null],
    ['https://:pass@host', null],
    ['https://@host', null],
    ['https://host/?a=b', null],
    ['https://host/?', null],
    ['https://host/#x', null],
    ['file:///etc/passwd', null],
    ['https:host', null],
    ['api.particle.io', null],
    ['https://', null],
    ['https://a b', null],
  ])('a URL of a cloud %j is %j', (text, expected) => {
    expect(parseCloudUrl(text)).toBe(expected);
  });

  test.each([
    ['10.0.0.7', '10.0.0.7'],
    ['Cloud.Example', 'cloud.example'],
    ['localhost', 'localhost'],
    [`${'a'.repeat(60)}.io`, `${'a'.repeat(60)}.io`],
    [`${'a'.repeat(61)}.io`, null],
    ['10.0.0.300', null],
    ['10.0', null],
    ['::1', null],
    ['-a.example', null],
    ['a..b', null],
    ['a b', null],
    ['https://host', null],
    ['', null],
  ])('a host for the device %j is %j', (text, expected) => {
    expect(parseServerHost(text)).toBe(expected);
  });

  test.each([
    ['1234', '1234'],
    ['rack-monitor-v2', 'rack-monitor-v2'],
    ['-x', null],
    ['a b', null],
    ['', null],
  ])('a product %j is %j', (text, expected) => {
    expect(parseProductId(text)).toBe(expected);
  });

  test.each([
    ['A-04', true],
    ['bench 3, left', false],
    ['1-2', false],
    ['10.0.0.7:3240/1-2', false],
    ['', false],
    [' A', false],
    ['A\n', false],
    ['x'.repeat(65), false],
  ])('a socket may be called %j: %j', (name, expected) => {
    expect(isSocketName(name)).toBe(expected);
  });
});

describe('the nearest known word', () => {
  const words = ['concurrency', 'cloud.url', 'cloud.tokenFile', 'perHub', 'db', 'log', 'job'];

  test.each([
    ['concurency', 'concurrency'],
    ['cloud.token_file', 'cloud.tokenFile'],
    ['per-hub', 'perHub'],
    ['lgo', 'log'],
    ['unrelated', null],
    ['', null],
  ])('to %j is %j', (word, expected) => {
    expect(nearest(word, words)).toBe(expected);
  });

  test('is the word itself for every known one, and for one with a letter too many', () => {
    fc.assert(
      fc.property(fc.constantFrom(...words), fc.nat(20), (word, at) => {
        expect(nearest(word, words)).toBe(word);
        const cut = Math.min(at, word.length);
        expect(nearest(`${word.slice(0, cut)}q${word.slice(cut)}`, words)).toBe(word);
      }),
    );
  });
});
