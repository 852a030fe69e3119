import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import forge from 'node-forge';

const DAY_MS = 86_400_000;

export interface TlsCloud extends AsyncDisposable {
  readonly url: string;
  /** Of whoever signed its certificate; nobody trusts it unless told so. */
  readonly authority: string;
  /** Requests that came through: none as long as the certificate is not taken. */
  readonly requestCount: number;
}

export interface CertificateFlaw {
  /** Signed by an authority that the server does not name; otherwise by itself. */
  readonly byAuthority?: boolean;
  readonly expired?: boolean;
  readonly ofAnotherHost?: boolean;
}

/** A cloud over HTTPS on this machine that takes everything with a 200. Its keys and its certificate are in memory only. */
export async function startTlsCloud(flaw: CertificateFlaw = {}): Promise<TlsCloud> {
  const { byAuthority = false, expired = false, ofAnotherHost = false } = flaw;
  const own = makeKeys();
  const signer = byAuthority ? makeKeys() : own;
  const certificate = certificateOf(own, signer, { byAuthority, expired, ofAnotherHost });
  let requestCount = 0;
  const server = createServer({ key: own.privatePem, cert: certificate }, (request, response) => {
    requestCount += 1;
    request.resume().once('end', () => response.end('{"ok":true}'));
  });
  server.on('tlsClientError', () => undefined); // a client that hangs up is what is wanted here
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    authority: byAuthority ? certificateOf(signer, signer, { isAuthority: true }) : certificate,
    get requestCount() {
      return requestCount;
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise(resolve => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

interface Keys {
  readonly privatePem: string;
  readonly private: forge.pki.rsa.PrivateKey;
  readonly public: forge.pki.rsa.PublicKey;
}

function makeKeys(): Keys {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
  });
  return {
    privatePem: privateKey,
    private: forge.pki.privateKeyFromPem(privateKey),
    public: forge.pki.publicKeyFromPem(publicKey),
  };
}

/** X.509 (RFC 5280), as PEM. */
function certificateOf(of: Keys, by: Keys, how: CertificateFlaw & { readonly isAuthority?: boolean }): string {
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = of.public;
  certificate.serialNumber = how.isAuthority ? '01' : '02';
  const end = Date.now() + (how.expired ? -DAY_MS : DAY_MS);
  certificate.validity.notBefore = new Date(end - 30 * DAY_MS);
  certificate.validity.notAfter = new Date(end);
  const authority = [{ name: 'commonName', value: 'an authority of the tests' }];
  const server = [{ name: 'commonName', value: 'a cloud of the tests' }];
  certificate.setSubject(how.isAuthority ? authority : server);
  certificate.setIssuer(how.isAuthority || how.byAuthority ? authority : server);
  certificate.setExtensions([
    { name: 'basicConstraints', cA: how.isAuthority ?? !how.byAuthority, critical: true },
    {
      name: 'subjectAltName',
      altNames: how.ofAnotherHost ? [{ type: 2, value: 'cloud.example' }] : [{ type: 7, ip: '127.0.0.1' }],
    },
  ]);
  certificate.sign(by.private, forge.md.sha256.create());
  return forge.pki.certificateToPem(certificate);
}
