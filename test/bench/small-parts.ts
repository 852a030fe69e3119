import { createHash } from 'node:crypto';
import { stationThreads } from '#src/core/threads.ts';
import { makeKeyPair } from '#src/keys/make-key-pair.ts';
import { isUsable } from '#src/job/steps/new-key.ts';
import { classifyPrivateKey } from '#src/photon/classify-key.ts';
import { openDatabase } from '#src/store/database.ts';
import { perform } from '#src/store/perform.ts';
import { localSealer } from '#src/vault/sealer.ts';
import { threadedSealer } from '#src/vault/threaded-sealer.ts';
import { newIdentity, recipientTextOf } from '#src/vault/x25519.ts';
import { projectFile } from '../support/project.ts';
import { tempFolder } from '../support/temp-folder.ts';
import { figureOf } from './figures.ts';
import type { Row } from './figures.ts';

/**
 * What the parts of one re-key cost the thread that asks for them, each over the SHA-256 of one DCT on the same machine.
 */
export async function benchSmallParts(): Promise<Row[]> {
  using folder = tempFolder();
  const recipient = recipientTextOf(newIdentity());
  const thread = stationThreads.take();
  const [local, threaded] = [localSealer(), threadedSealer(thread.connect('sealing'))];
  const dct = Buffer.alloc(8391, 7);
  const pair = await makeKeyPair();
  const field = Buffer.alloc(1216, 0xff);
  field.set(pair.privateDer);
  const db = openDatabase({ path: folder.file('a.db'), create: true, migrationsDir: projectFile('migrations') });
  const parts: Record<string, () => unknown> = {
    'a key pair': () => makeKeyPair(),
    'the check that the firmware can read a key': () => isUsable(pair),
    'the classification of a key that was found': () => classifyPrivateKey(field),
    'sealing a backup in this thread': () => local.seal([recipient], new Uint8Array(dct)),
    'sealing a backup in another thread': () => threaded.seal([recipient], new Uint8Array(dct)),
    'an operation of the record, with its event, durable': () =>
      db.raw.transaction(() => perform(db, 'noteExport', { what: 'record' }))(),
  };
  await threaded.seal([recipient], new Uint8Array(dct)); // once it has started
  const yardstick = await medianMs(() => createHash('sha256').update(dct).digest(), 20);
  const rows: Row[] = [];
  for (const [name, act] of Object.entries(parts)) {
    const ratio = (await medianMs(act, 1)) / yardstick;
    rows.push({ name: '', what: `${name}, over the SHA-256 of a DCT`, figure: figureOf([ratio]), goal: null });
  }
  db.raw.close();
  await thread.end();
  return rows;
}

const TIMES = 200;

/** The median of many, after as many that do not count; `atOnce` of them are timed together. */
async function medianMs(act: () => unknown, atOnce: number): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 2 * TIMES; round += 1) {
    const began = performance.now();
    for (let n = 0; n < atOnce; n += 1) await act();
    if (round >= TIMES) times.push((performance.now() - began) / atOnce);
  }
  return figureOf(times).median;
}
