import { describe, expect, test } from 'vitest';
import { sha256Hex } from '#src/core/bytes.ts';
import { OPEN_PHASES, type OpenPhase, type OpenWrite } from '#src/core/ledger.ts';
import { decideResume, newWork, oldBlockIsThere, wipeWork, type Resume } from '#src/job/work.ts';
import type { KeyPair } from '#src/keys/make-key-pair.ts';

const OFFSET = 34;
const OLD = Buffer.alloc(1600, 0xff);
const NEW = Buffer.alloc(1600, 0x42);
const OTHER = Buffer.alloc(1600, 0x17);

function openIn(phase: OpenPhase): OpenWrite {
  return {
    writeId: 1,
    phase,
    alternate: 1,
    offset: OFFSET,
    length: 1600,
    oldSha256: sha256Hex(OLD),
    newSha256: sha256Hex(NEW),
    backup: {
      backupId: 1,
      sha256: '',
      bytes: 8391,
      classification: 'blank',
      fingerprint: null,
      takenAt: 0,
      sealed: new Uint8Array(1),
    },
    key: null,
    restores: null,
    doubt: 'none',
  };
}

function dctWith(block: Uint8Array): Buffer {
  const dct = Buffer.alloc(8391, 0x5a);
  dct.set(block, OFFSET);
  return dct;
}

/** The resume table of job/work.ts: on record × what is there. */
const TABLE: Readonly<Record<OpenPhase, readonly [whenNew: Resume, whenOld: Resume, whenElse: Resume]>> = {
  prepared: ['verify', 'write', 'anew'],
  writing: ['verify', 'write', 'anew'],
  verified: ['send', 'anew', 'anew'],
  unknown: ['send', 'anew', 'anew'],
  refused: ['roll-back', 'rolled-back', 'conflict'],
  'rolling-back': ['roll-back', 'rolled-back', 'conflict'],
  accepted: ['leave', 'anew', 'anew'],
};

describe('what is left to do on a device', () => {
  test('is everything, where no write is open', () => {
    for (const block of [OLD, NEW, OTHER]) expect(decideResume(null, dctWith(block))).toBe('fresh');
  });

  test.each(OPEN_PHASES)('with a write in phase `%s` is what the table says', phase => {
    const found = [NEW, OLD, OTHER].map(block => decideResume(openIn(phase), dctWith(block)));
    expect(found).toEqual(TABLE[phase]);
  });

  test.each([OFFSET, OFFSET + 800, OFFSET + 1599])('is decided by every byte of the block, that at %i too', at => {
    const dct = dctWith(NEW);
    dct[at] = 0;
    expect(decideResume(openIn('verified'), dct)).toBe('anew');
    expect(decideResume(openIn('refused'), dct)).toBe('conflict');
  });

  test('is decided by no byte outside of the block', () => {
    const dct = dctWith(NEW);
    dct.fill(0, 0, OFFSET);
    dct.fill(0, OFFSET + 1600);
    expect(decideResume(openIn('writing'), dct)).toBe('verify');
    expect(oldBlockIsThere(openIn('writing'), dct)).toBe(false);
    dct.set(OLD, OFFSET);
    expect(oldBlockIsThere(openIn('writing'), dct)).toBe(true);
  });

  test('goes forward where the old block and the new one are the same', () => {
    const open = { ...openIn('writing'), oldSha256: sha256Hex(NEW) };
    expect(decideResume(open, dctWith(NEW))).toBe('verify');
    expect(decideResume({ ...open, phase: 'refused' }, dctWith(NEW))).toBe('roll-back');
  });
});

test('no key bytes outlive a session: they are overwritten in place', () => {
  const secrets = Array.from({ length: 4 }, () => Buffer.alloc(16, 0x99));
  const [dct, old, next, privateDer] = secrets as [Buffer, Buffer, Buffer, Buffer];
  const pair = { privateDer } as KeyPair;
  wipeWork({ ...newWork(), dct, block: { offset: 0, old, next }, key: pair });
  expect(secrets.map(bytes => bytes.every(byte => byte === 0))).toEqual([true, true, true, true]);
  wipeWork(newWork());
});
