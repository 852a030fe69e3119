import { threadFile, Threads } from '../core/threads.ts';

/** Each seals and opens (sealing-thread.ts). */
export const sealingThreads = new Threads(threadFile('sealing-thread'));
