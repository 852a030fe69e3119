import { parentPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { verifyChain } from './chain.ts';

/* A part of the chain, proven in a thread of its own. */

export interface ChainWork {
  readonly path: string;
  readonly after: number;
  readonly until: number;
  readonly expected: string | null;
}

const { path, ...range } = workerData as ChainWork;
const raw = new Database(path, { readonly: true, fileMustExist: true });
try {
  parentPort?.postMessage(verifyChain(raw, range));
} finally {
  raw.close();
}
