import { threadFile, Threads } from '../core/threads.ts';

/** Each owns one database (worker.ts). */
export const recordThreads = new Threads(threadFile('worker'));
