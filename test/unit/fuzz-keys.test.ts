import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sha256Hex } from '#src/core/bytes.ts';
import { canonicalPrivateDer } from '#src/keys/canonical.ts';
import { parseServerKey, SERVER_KEY_BYTES, type PublicKey } from '#src/keys/public-key.ts';
import { isConsistent, parsePrivateDer } from '#src/keys/rsa-numbers.ts';
import { classifyPrivateKey, KEY_CLASSES } from '#src/photon/classify-key.ts';
import { firmwareReads, readAsFirmware } from '#src/photon/firmware-key-reader.ts';
import { endOf, expectCode, fuzz, mutated, written } from '../support/fuzz.ts';
import { inField, ORDINARY, ordinaryDer, rsaOf, SHORT } from '../support/rsa-pool.ts';

/** PKCS#8 (RFC 5958) round a PKCS#1 key of 256 to 65535 bytes. */
function pkcs8(inner: Uint8Array): Buffer {
  const long = (tag: number, content: Uint8Array): Buffer =>
    Buffer.concat([Buffer.of(tag, 0x82, content.length >> 8, content.length & 0xff), content]);
  const algorithm = Buffer.from('300d06092a864886f70d0101010500', 'hex');
  return long(0x30, Buffer.concat([Buffer.of(2, 1, 0), algorithm, long(0x04, inner)]));
}

const PRIVATE_KEYS = [
  canonicalPrivateDer(ORDINARY),
  ordinaryDer(ORDINARY),
  ordinaryDer(SHORT.dp),
  pkcs8(ordinaryDer(ORDINARY)),
  // Whole keys, and far too small ones: every number fits into a byte or two.
  ordinaryDer(rsaOf(3n, 11n, 3n)),
  ordinaryDer(rsaOf(65_539n, 257n, 7n)),
];

const PRIVATE = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.constantFrom(...PRIVATE_KEYS).chain(key => mutated(key)),
  fc
    .array(fc.constantFrom(0x30, 0x80, 0x02, 0x01, 0x00, 0x82, 0x84, 0x04, 0x05, 0xff, 0xa0), { maxLength: 40 })
    .map(bytes => Buffer.from(bytes)),
);

function expectPublic({ spki, pem, fingerprint }: PublicKey): void {
  expect(fingerprint).toBe(sha256Hex(spki));
  const body = pem.replace(
    /^-----BEGIN PUBLIC KEY-----\n((?:[A-Za-z0-9+/=]{1,64}\n)+)-----END PUBLIC KEY-----\n$/,
    '$1',
  );
  expect(Buffer.from(body, 'base64').equals(spki)).toBe(true);
}

test('a private key of any bytes is one whose numbers belong together, or none', async () => {
  await fuzz(PRIVATE, 2500, bytes => {
    const key = parsePrivateDer(bytes);
    if (key === null) return;
    expect(['pkcs1', 'pkcs8']).toContain(key.form);
    expect(isConsistent(key.numbers)).toBe(true);
  });
});

test('a field of a private key of any bytes has one class, and a public half where it holds a key', async () => {
  const fields = fc.oneof(
    PRIVATE,
    fc.tuple(PRIVATE, fc.constantFrom(0, 0xff, 0x30)).map(([key, filler]) => inField(key, filler)),
    fc.uint8Array({ minLength: 612, maxLength: 1216, size: 'max' }),
  );
  await fuzz(fields, 2500, field => {
    const { classification, publicKey } = classifyPrivateKey(field);
    expect(KEY_CLASSES).toContain(classification);
    expect(publicKey !== null).toBe(['readable', 'misread', 'pkcs8'].includes(classification));
    if (publicKey) expectPublic(publicKey);
    const read = readAsFirmware(field);
    expect(read === null).toBe(field.length < 612);
    if (classification !== 'readable') return;
    const modulus = createPublicKey(publicKey!.pem).export({ format: 'jwk' }).n ?? '';
    const n = BigInt(`0x${Buffer.from(modulus, 'base64url').toString('hex')}`);
    expect(read?.n).toBe(n);
    expect(firmwareReads(field, { n })).toBe(true);
  });
});

const spki = { type: 'spki', format: 'der' } as const;
const pem = { type: 'spki', format: 'pem' } as const;
const { publicKey: RSA } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const SERVER_KEYS = [
  RSA.export(spki),
  Buffer.from(RSA.export(pem)),
  Buffer.from(RSA.export({ type: 'pkcs1', format: 'pem' })),
  generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey.export(spki),
  generateKeyPairSync('ec', { namedCurve: 'P-521' }).publicKey.export(spki),
  Buffer.from(generateKeyPairSync('ed25519').publicKey.export(pem)),
  generateKeyPairSync('x448').publicKey.export(spki),
  Buffer.from(generateKeyPairSync('rsa-pss', { modulusLength: 1024, hashAlgorithm: 'sha256' }).publicKey.export(pem)),
];
const PEM_TOKENS = [
  '-----BEGIN',
  '-----BEGIN PUBLIC KEY-----\n',
  '-----BEGIN RSA PUBLIC KEY-----\n',
  '-----BEGIN CERTIFICATE-----\n',
  '-----BEGIN X509 CRL-----\n',
  '-----END PUBLIC KEY-----\n',
  'Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n',
  'PRIVATE KEY',
  'MIIB',
  '====',
  '\0',
];

test('a private key that is nested without end is none, in short time', async () => {
  const open = fc.constantFrom('3080', '30820800', '2480', '30847fffffff', '0500');
  await fuzz(fc.array(fc.tuple(open, fc.nat({ max: 20_000 })), { maxLength: 3 }), 60, parts => {
    expect(parsePrivateDer(Buffer.from(written(parts), 'hex'))).toBeNull();
  });
});

test("a server's key of any bytes is RSA-2048 with e = 65537 in 294 bytes of DER, or SERVER_KEY_INVALID", async () => {
  const files = fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)) },
    { weight: 6, arbitrary: fc.constantFrom(...SERVER_KEYS).chain(key => mutated(key, PEM_TOKENS)) },
    {
      weight: 1,
      arbitrary: fc.array(fc.constantFrom(...PEM_TOKENS), { maxLength: 8 }).map(parts => Buffer.from(parts.join(''))),
    },
  );
  await fuzz(files, 2500, file => {
    const end = endOf(() => parseServerKey(file, 'key.pem'));
    if ('fault' in end) {
      expectCode(end.fault, 'SERVER_KEY_INVALID');
      expect(end.fault.message).toMatch(/^key\.pem: [\x20-\x7e]+$/);
      return;
    }
    expect(end.value).toHaveLength(SERVER_KEY_BYTES);
    const { asymmetricKeyType, asymmetricKeyDetails } = createPublicKey({ key: end.value, ...spki });
    expect([asymmetricKeyType, asymmetricKeyDetails]).toEqual(['rsa', { modulusLength: 2048, publicExponent: 65537n }]);
  });
});
