import { execFileSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { signStatement } from '#src/audit/dsse.ts';
import {
  ed25519Public,
  openCheckpoint,
  originOf,
  rawPublic,
  signCheckpoint,
  verifierKey,
} from '#src/audit/signed-note.ts';
import { makeSigningKey, readSigningKey, signingKeyFileOf } from '#src/audit/signing-key.ts';
import { csvLine } from '#src/report/csv.ts';
import { faultOf } from '../support/record-bench.ts';
import { modeOf, tempFolder } from '../support/temp-folder.ts';

/** RFC 8032, section 7.1, test 1. */
const SEED = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
const PUBLIC = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a';
const key = createPrivateKey({
  key: Buffer.from(`302e020100300506032b657004220420${SEED}`, 'hex'),
  format: 'der',
  type: 'pkcs8',
});
const raw = Buffer.from(PUBLIC, 'hex');
const origin = originOf('a5fb52b1-cf29-488b-b198-bd7747a2e303');
const checkpoint = { origin, seq: 17, hash: Buffer.alloc(32, 7), at: '2026-05-03T09:00:00.000Z' };

describe('checkpoints', () => {
  test('are signed notes: text, empty line, em dash, name, and four bytes of key hash before the signature', () => {
    expect(rawPublic(key)).toEqual(raw);
    expect(signCheckpoint(checkpoint, key)).toMatchInlineSnapshot(`
      "photon-fleet/a5fb52b1-cf29-488b-b198-bd7747a2e303
      17
      BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
      2026-05-03T09:00:00.000Z

      — photon-fleet/a5fb52b1-cf29-488b-b198-bd7747a2e303 5jWx8KI3jYOIl+BEDjrnRDkU/ozMgV3mEFfVXO6Tj7wOpsVgrnEMAC1LiTN5rpdEzLMZ3sPQ6zeixWpZCF+X4Qf+BAY=
      "
    `);
    expect(verifierKey(origin, raw)).toMatchInlineSnapshot(
      `"photon-fleet/a5fb52b1-cf29-488b-b198-bd7747a2e303+e635b1f0+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"`,
    );
  });

  test('open again with the key that signed them', () => {
    expect(openCheckpoint(signCheckpoint(checkpoint, key), origin, raw)).toEqual(checkpoint);
  });

  test('any byte that is another is found', () => {
    const note = Buffer.from(signCheckpoint(checkpoint, key));
    for (let at = 0; at < note.length; at += 1) {
      const flipped = Buffer.from(note);
      flipped[at]! ^= 1;
      expect(() => openCheckpoint(flipped.toString(), origin, raw), `byte ${at}`).toThrow(/checkpoint/);
    }
  });

  test('of another station or another key are refused, and so is anything else', async () => {
    const note = signCheckpoint(checkpoint, key);
    const open = async (text: string, name: string, by: Uint8Array): Promise<unknown> => {
      await Promise.resolve();
      return openCheckpoint(text, name, by);
    };
    expect(await faultOf(open(note, originOf('other'), raw))).toMatchObject({
      code: 'CHECKPOINT_INVALID',
      message: `the checkpoint is of the journal ${origin}, and this one is photon-fleet/other`,
    });
    const other = rawPublic(generateKeyPairSync('ed25519').privateKey);
    expect((await faultOf(open(note, origin, other))).message).toBe(
      'the checkpoint is not signed by this station’s key',
    );
    for (const text of ['', 'x', note.repeat(50), note.slice(0, -1), `${note}— more AAAA\n`]) {
      expect((await faultOf(open(text, origin, raw))).code).toBe('CHECKPOINT_INVALID');
    }
  });
});

describe('a signed statement', () => {
  test('is proven by openssl alone', () => {
    using folder = tempFolder();
    const envelope = JSON.parse(signStatement({ _type: 'https://in-toto.io/Statement/v1', subject: [] }, key)) as {
      payloadType: string;
      payload: string;
      signatures: { sig: string; keyid: string }[];
    };
    const payload = Buffer.from(envelope.payload, 'base64');
    const type = envelope.payloadType;
    expect(type).toBe('application/vnd.in-toto+json');
    writeFileSync(folder.file('pae'), Buffer.concat([Buffer.from(`DSSEv1 28 ${type} ${payload.length} `), payload]));
    writeFileSync(folder.file('sig'), Buffer.from(envelope.signatures[0]!.sig, 'base64'));
    writeFileSync(folder.file('pub'), ed25519Public(raw).export({ format: 'pem', type: 'spki' }));
    const verify = ['pkeyutl', '-verify', '-pubin', '-inkey', folder.file('pub'), '-rawin', '-in', folder.file('pae')];
    const said = execFileSync('openssl', [...verify, '-sigfile', folder.file('sig')], { encoding: 'utf8' });
    expect(said).toContain('Verified Successfully');
  });
});

describe('the signing key', () => {
  test('is made once, 0600, and read again', () => {
    using folder = tempFolder();
    const path = signingKeyFileOf(folder.file('fleet.db'));
    expect(readSigningKey(path)).toBeNull();
    const made = makeSigningKey(path);
    expect(modeOf(path)).toBe('600');
    expect(rawPublic(readSigningKey(path)!)).toEqual(rawPublic(made));
    expect(rawPublic(makeSigningKey(path))).toEqual(rawPublic(made));
    expect(statSync(path).size).toBeLessThan(200);
  });

  test('a file that is none is said without a byte of it', async () => {
    using folder = tempFolder();
    const rsa = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ format: 'pem', type: 'pkcs8' });
    for (const content of ['', 'not a key', rsa, 'x'.repeat(100_000)]) {
      writeFileSync(folder.file('key'), content);
      const fault = await faultOf(Promise.resolve().then(() => readSigningKey(folder.file('key'))));
      expect(fault.code).toBe('SIGNING_KEY');
      expect(fault.message).not.toContain('not a key');
    }
    expect((await faultOf(Promise.resolve().then(() => readSigningKey(folder.path)))).code).toBe('SIGNING_KEY');
    const missing = folder.file('no/folder/key');
    expect((await faultOf(Promise.resolve().then(() => makeSigningKey(missing)))).code).toBe('SIGNING_KEY');
    expect(createPublicKey(key).asymmetricKeyType).toBe('ed25519');
    expect(() => readFileSync(missing)).toThrow();
  });
});

test('no spreadsheet runs a cell', () => {
  expect(csvLine(['=1+1', '+1', '-1', '@x', '\tx', 'a"b', 'a,b', 'plain', 7])).toBe(
    `'=1+1,'+1,'-1,'@x,'\tx,"a""b","a,b",plain,7\r\n`,
  );
});
