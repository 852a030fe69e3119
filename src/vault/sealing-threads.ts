import { Threads } from '../core/threads.ts';

/** Each seals and opens (sealing-thread.ts). */
export const sealingThreads = new Threads(new URL('./sealing-thread.js', import.meta.url));
