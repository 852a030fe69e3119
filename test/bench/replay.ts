import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { sha256Hex } from '#src/core/bytes.ts';
import { Store } from '#src/store/store.ts';
import { Bench, CLI } from '../support/cli.ts';
import { fillOutbox } from '../support/full-outbox.ts';
import { atLeast, figureOf } from './figures.ts';
import type { Row } from './figures.ts';
import { expectCode, run } from './processes.ts';

/** As `cloud.concurrency` is by default. */
const CONCURRENCY = 8;

/** f: `replay` of many sends, each of them durable, against a bare loop of fetch that remembers nothing. */
export async function benchReplay(rounds: number, sends: number): Promise<Row[]> {
  await using bench = new Bench();
  const server = new Worker(new URL('./answer-at-once.js', import.meta.url));
  const [port] = (await once(server, 'message')) as [number];
  const url = `http://127.0.0.1:${port}`;
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const full = bench.path('full.db');
  {
    await using store = await Store.open({ path: full, create: true });
    const devices = Array.from({ length: sends }, (_, index) => index + 1);
    const key = { fingerprint: sha256Hex(publicKey.export({ type: 'spki', format: 'der' })), pem };
    await fillOutbox(store, devices, () => [key]);
  }
  const env = { ...process.env, PARTICLE_ACCESS_TOKEN: 'token-of-the-bench', PHOTON_FLEET_CLOUD_URL: url };
  const bare = bench.file('bare.mjs', bareLoop(url, pem, sends));
  const ratios: number[] = [];
  const peaks: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const db = bench.path(`round-${round}.db`);
    await cp(full, db);
    const theirs = expectCode(await run(process.execPath, [bare]), 0);
    const ours = expectCode(await run(process.execPath, [CLI, 'replay', '--json', '--db', db], { env }), 0);
    const { accepted } = JSON.parse(ours.stdout) as { accepted: number };
    if (accepted !== sends) throw new Error(`only ${accepted} were accepted`);
    ratios.push(theirs.wallMs / ours.wallMs);
    peaks.push(ours.peakMiB);
  }
  await server.terminate();
  const what = `\`replay\` of ${sends} sends over a bare loop of fetch, ${CONCURRENCY} at once, sends in a second`;
  return [
    { name: 'f', what, figure: figureOf(ratios), goal: atLeast(0.7) },
    { name: '', what: '… its peak memory, MiB', figure: figureOf(peaks), goal: null },
  ];
}

function bareLoop(url: string, pem: string, sends: number): string {
  return `
const url = ${JSON.stringify(url)}, publicKey = ${JSON.stringify(pem)};
let next = 0;
async function work() {
  while (next < ${sends}) {
    const deviceID = (next += 1).toString(16).padStart(24, '0');
    const response = await fetch(url + '/v1/provisioning/' + deviceID, {
      method: 'POST',
      headers: { authorization: 'Bearer token-of-the-bench', 'content-type': 'application/json' },
      body: JSON.stringify({ deviceID, publicKey, algorithm: 'rsa', filename: deviceID + '.pub.pem', order: 'manual_1' }),
      redirect: 'manual',
      signal: AbortSignal.timeout(30_000),
    });
    await response.text();
  }
}
await Promise.all(Array.from({ length: ${CONCURRENCY} }, work));
`;
}
