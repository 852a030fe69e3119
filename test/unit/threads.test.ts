import { once } from 'node:events';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Threads } from '#src/core/threads.ts';
import { Bench } from '../support/cli.ts';
import { Child } from '../support/children.ts';

const ECHO = `import { parentPort, threadId } from 'node:worker_threads';
parentPort.on('message', () => parentPort.postMessage(threadId));`;

describe('threads', () => {
  test('one that was started early is taken once', async () => {
    await using bench = new Bench();
    const threads = new Threads(pathToFileURL(bench.file('echo.mjs', ECHO)));
    threads.startEarly();
    const taken = [threads.take(), threads.take()];
    const ids = taken.map(async thread => {
      thread.postMessage(null);
      return (await once(thread, 'message'))[0] as number;
    });
    expect(await Promise.all(ids)).toEqual(taken.map(({ threadId }) => threadId));
    expect(new Set(taken).size).toBe(2);
    await Promise.all(taken.map(thread => thread.terminate()));
  });

  test('one that fails tells whoever has taken it', async () => {
    await using bench = new Bench();
    const threads = new Threads(pathToFileURL(bench.path('none.mjs')));
    threads.startEarly();
    const early = threads.take();
    const [error] = (await once(early, 'error')) as [Error];
    expect(error.message).toContain('none.mjs');
  });

  test('one that nobody takes keeps no process alive', async () => {
    await using child = new Child(
      `const { recordThreads } = await import(dist + 'store/record-threads.js');
       recordThreads.startEarly(); process.stdin.destroy(); console.log('done');`,
    );
    expect(await child.ended()).toEqual(['done']);
  });
});
