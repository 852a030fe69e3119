import { createHash, createPublicKey, generateKeyPairSync } from 'node:crypto';
import forge from 'node-forge';
import { beforeAll, describe, expect, test } from 'vitest';
import { Fault } from '#src/core/errors.ts';
import { parseServerKey, publicKeyFromSpki, publicKeyOf, SERVER_KEY_BYTES } from '#src/keys/public-key.ts';
import { makeRsa } from '#src/sim/photon-rsa.ts';
import { canonicalPrivateDer } from '#src/keys/canonical.ts';
import { ORDINARY, SHORT } from '../support/rsa-pool.ts';

function pem(label: string, der: Uint8Array): Buffer {
  const lines = Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n');
  return Buffer.from(`-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`);
}

describe('a public key', () => {
  test('is SPKI of 162 bytes, PEM of it, and the SHA-256 of it', () => {
    const { spki, pem: text, fingerprint } = publicKeyOf(ORDINARY.n, ORDINARY.e);
    expect(spki.length).toBe(162);
    expect(fingerprint).toBe(createHash('sha256').update(spki).digest('hex'));
    expect(text.split('\n').map(line => line.length)).toEqual([26, 64, 64, 64, 24, 24, 0]);
    const parsed = createPublicKey(text);
    expect(parsed.export({ format: 'der', type: 'spki' })).toEqual(spki);
    expect(parsed.export({ format: 'pem', type: 'spki' })).toBe(text);
  });

  test('comes out alike from its numbers and from its bytes', () => {
    for (const { n, e } of Object.values(SHORT)) {
      const key = publicKeyOf(n, e);
      expect(publicKeyFromSpki(key.spki)).toEqual(key);
    }
  });
});

describe("a server's public key", () => {
  let server: { privateKey: Buffer; publicKey: Buffer };
  beforeAll(async () => {
    server = await makeRsa(2048);
  });

  test('is taken from DER and from PEM, and is 294 bytes of SPKI', () => {
    expect(parseServerKey(server.publicKey, 'key')).toEqual(server.publicKey);
    expect(parseServerKey(pem('PUBLIC KEY', server.publicKey), 'key')).toEqual(server.publicKey);
    expect(server.publicKey.length).toBe(SERVER_KEY_BYTES);
  });

  test('is taken from PEM with Windows line ends, with text round it, and in the older form', () => {
    const text = pem('PUBLIC KEY', server.publicKey).toString();
    expect(parseServerKey(Buffer.from(text.replaceAll('\n', '\r\n')), 'key')).toEqual(server.publicKey);
    expect(parseServerKey(Buffer.from(`# our server\n\n${text}\nthe end\n`), 'key')).toEqual(server.publicKey);
    const pkcs1 = createPublicKey({ key: server.publicKey, format: 'der', type: 'spki' }).export({
      format: 'pem',
      type: 'pkcs1',
    });
    expect(parseServerKey(Buffer.from(pkcs1), 'key')).toEqual(server.publicKey);
  });

  test('is taken out of a certificate', () => {
    const signer = forge.pki.privateKeyFromPem(pem('RSA PRIVATE KEY', canonicalPrivateDer(ORDINARY)).toString());
    const certificate = forge.pki.createCertificate();
    certificate.publicKey = forge.pki.publicKeyFromPem(pem('PUBLIC KEY', server.publicKey).toString());
    certificate.validity.notAfter = new Date(certificate.validity.notBefore.getTime() + 1000);
    certificate.sign(signer, forge.md.sha256.create());
    expect(parseServerKey(Buffer.from(forge.pki.certificateToPem(certificate)), 'key')).toEqual(server.publicKey);
  });

  function refusal(file: Uint8Array): string {
    try {
      parseServerKey(file, 'server.pem');
    } catch (thrown) {
      if (thrown instanceof Fault && thrown.code === 'SERVER_KEY_INVALID') return thrown.message;
      throw thrown;
    }
    throw new Error('it was taken');
  }

  test('of another kind is refused, and what it is is said', () => {
    const small = publicKeyOf(ORDINARY.n, ORDINARY.e).spki;
    const e3 = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).publicKey;
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
    const ed = generateKeyPairSync('ed25519').publicKey;
    const refusals = [small, ...[e3, ec, ed].map(key => key.export({ format: 'der', type: 'spki' }))].map(refusal);
    expect(refusals).toMatchInlineSnapshot(`
      [
        "server.pem: a key of type rsa-1024 with e = 65537, not RSA-2048 with e = 65537",
        "server.pem: a key of type rsa-2048 with e = 3, not RSA-2048 with e = 65537",
        "server.pem: a key of type ec, not RSA-2048 with e = 65537",
        "server.pem: a key of type ed25519, not RSA-2048 with e = 65537",
      ]
    `);
    expect(refusal(pem('PUBLIC KEY', small))).toBe(refusals[0]);
  });

  test('is not derived from a private key that strayed into the file', () => {
    const asPublic = pem('PUBLIC KEY', server.publicKey);
    const asPrivate = pem('RSA PRIVATE KEY', server.privateKey);
    for (const file of [asPrivate, Buffer.concat([asPublic, asPrivate]), server.privateKey]) {
      expect(refusal(file)).toBe('server.pem: no public key in it');
    }
    expect(refusal(pem('ENCRYPTED PRIVATE KEY', server.privateKey))).toBe('server.pem: no public key in it');
  });

  test.each([
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('not a key\n')],
    ['zeros', Buffer.alloc(294)],
    ['a PEM frame with nothing in it', pem('PUBLIC KEY', Buffer.alloc(0))],
    ['a PEM frame without an end', Buffer.from('-----BEGIN PUBLIC KEY-----\nMIIB\n')],
  ])('is not found in %s', (_, file) => {
    expect(refusal(file)).toBe('server.pem: no public key in it');
  });

  test('that is cut anywhere is refused', () => {
    for (let length = 0; length < SERVER_KEY_BYTES; length += 7) refusal(server.publicKey.subarray(0, length));
  });
});
