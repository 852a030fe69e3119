import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Fault } from '../core/errors.ts';
import { threadFile } from '../core/threads.ts';
import { asFault } from './database.ts';
import type { ChainResult } from './journal/chain.ts';
import type { ChainWork } from './journal/chain-thread.ts';
import type { Store } from './store.ts';

/** Below this a second thread costs more than it saves. */
const WORTH_A_THREAD = 50_000;
const MOST_THREADS = 4;

/**
 * Proves the chain of the journal up to `until`, in as many threads as there are processors: each takes a part, and the
 * parts are joined by the hashes at their ends.
 */
export async function proveChain(
  store: Pick<Store, 'call' | 'path'>,
  until: number,
  threads = availableParallelism(),
): Promise<ChainResult> {
  const parts = Math.max(1, Math.min(threads, MOST_THREADS, Math.floor(until / WORTH_A_THREAD)));
  const size = Math.ceil(until / parts);
  const ranges = await Promise.all(
    Array.from({ length: parts }, async (_, part) => {
      const after = part * size;
      return {
        path: store.path,
        after,
        until: Math.min(until, after + size),
        expected: await store.call('journalHashAt', after),
      };
    }),
  );
  const [whole] = ranges;
  if (whole && ranges.length === 1) return store.call('verifyPart', whole);
  const results = await Promise.all(ranges.map(inThread));
  let events = 0;
  for (const result of results) {
    events += result.events;
    if (result.problem) return { ...result, events };
  }
  return { events, head: results.at(-1)?.head ?? '', problem: null };
}

function inThread(work: ChainWork): Promise<ChainResult> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(threadFile('chain-thread'), { workerData: work });
    worker.once('message', (result: ChainResult) => resolve(result));
    worker.once('error', error => reject(asFault(error, work.path)));
    worker.once('exit', () => reject(new Fault('BUG', 'a thread that read the journal ended without a word')));
  });
}
