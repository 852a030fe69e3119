import { Threads } from '../core/threads.ts';

/** Each owns one database (worker.ts, as the build has joined it; this may be called from there too). */
export const recordThreads = new Threads(new URL('../bundle/worker.js', import.meta.url));
