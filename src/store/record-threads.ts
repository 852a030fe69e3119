import { Threads } from '../core/threads.ts';

/** Each owns one database (worker.ts). */
export const recordThreads = new Threads(new URL('./worker.js', import.meta.url));
