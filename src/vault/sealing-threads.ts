import { Threads } from '../core/threads.ts';

/** Each seals and opens (sealing-thread.ts, as the build has joined it; this may be called from there too). */
export const sealingThreads = new Threads(new URL('../bundle/sealing-thread.js', import.meta.url));
