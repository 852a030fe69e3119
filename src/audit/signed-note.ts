import { createHash, createPublicKey, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { Fault } from '../core/errors.ts';

/*
 * Signed notes (c2sp.org/signed-note): a text, an empty line, and a line for each signature. Ours are checkpoints of a
 * journal: its name, the number of its events, the hash of the last one (base64), and the time.
 */

/** Ed25519 in a signed note. */
const ALGORITHM = 0x01;
/** SPKI of an Ed25519 key is these bytes and then the key's 32 (RFC 8410). */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

export interface Checkpoint {
  /** The journal's name: `photon-fleet/STATION`. */
  readonly origin: string;
  readonly seq: number;
  /** 32 bytes. */
  readonly hash: Buffer;
  /** RFC 3339, UTC. */
  readonly at: string;
}

export function originOf(stationId: string): string {
  return `photon-fleet/${stationId}`;
}

/** The public key as a KeyObject. @param raw its 32 bytes */
export function ed25519Public(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_HEAD, raw]), format: 'der', type: 'spki' });
}

/** The 32 bytes of an Ed25519 public key. */
export function rawPublic(key: KeyObject): Buffer {
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(SPKI_HEAD.length);
}

/** The first four bytes of SHA-256 over name, newline, algorithm and key. */
function keyHash(name: string, raw: Uint8Array): Buffer {
  return createHash('sha256').update(`${name}\n`).update(Uint8Array.of(ALGORITHM)).update(raw).digest().subarray(0, 4);
}

/** The key as verifiers of signed notes take it: `name+hash+base64`. */
export function verifierKey(name: string, raw: Uint8Array): string {
  return `${name}+${keyHash(name, raw).toString('hex')}+${Buffer.from([ALGORITHM, ...raw]).toString('base64')}`;
}

export function signCheckpoint({ origin, seq, hash, at }: Checkpoint, key: KeyObject): string {
  const text = `${origin}\n${seq}\n${hash.toString('base64')}\n${at}\n`;
  const signature = Buffer.concat([keyHash(origin, rawPublic(key)), sign(null, Buffer.from(text), key)]);
  return `${text}\n— ${origin} ${signature.toString('base64')}\n`;
}

const MAX_NOTE_BYTES = 4096;
const NOTE =
  /^([!-*,-~]{1,128})\n(0|[1-9]\d{0,14})\n([A-Za-z0-9+/]{43}=)\n([0-9TZ:.-]{20,30})\n\n— (\S+) ([A-Za-z0-9+/=]+)\n$/;

/**
 * Reads a checkpoint and proves its signature.
 * @param raw the 32 bytes of the station's public key
 * @throws Fault CHECKPOINT_INVALID
 */
export function openCheckpoint(note: string, origin: string, raw: Uint8Array): Checkpoint {
  const [, name, seq, hash, at, signer, signature] = (note.length <= MAX_NOTE_BYTES && NOTE.exec(note)) || [];
  if (name === undefined) throw new Fault('CHECKPOINT_INVALID', 'the checkpoint is not a signed note of a journal');
  if (name !== origin || signer !== origin) {
    throw new Fault('CHECKPOINT_INVALID', `the checkpoint is of the journal ${name}, and this one is ${origin}`, {
      hint: 'it belongs to another station: name the database of that one with --db',
    });
  }
  const bytes = Buffer.from(signature ?? '', 'base64');
  const text = note.slice(0, note.indexOf('\n\n') + 1);
  const signed = bytes.length === 68 && bytes.subarray(0, 4).equals(keyHash(origin, raw));
  if (!signed || !verify(null, Buffer.from(text), ed25519Public(raw), bytes.subarray(4))) {
    throw new Fault('CHECKPOINT_INVALID', 'the checkpoint is not signed by this station’s key');
  }
  return { origin, seq: Number(seq), hash: Buffer.from(hash ?? '', 'base64'), at: at ?? '' };
}
