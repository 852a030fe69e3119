import { once } from 'node:events';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { stationThreads, Threads } from '#src/core/threads.ts';
import { Bench } from '../support/cli.ts';
import { Child } from '../support/children.ts';

const ECHO = `import { parentPort, threadId } from 'node:worker_threads';
parentPort.on('message', ({ service, port }) => port.postMessage([service, threadId]));`;

describe('threads', () => {
  test('one that was started early is taken once', async () => {
    await using bench = new Bench();
    const threads = new Threads(pathToFileURL(bench.file('echo.mjs', ECHO)));
    threads.startEarly();
    const taken = [threads.take(), threads.take()];
    const answers = taken.map(async thread => {
      const [answer] = (await once(thread.connect('sealing'), 'message')) as [[string, number]];
      return answer;
    });
    const [one, other] = await Promise.all(answers);
    expect([one![0], other![0]]).toEqual(['sealing', 'sealing']);
    expect(one![1]).not.toBe(other![1]);
    await Promise.all(taken.map(thread => thread.end()));
  });

  test('one that fails tells whoever has taken it', async () => {
    await using bench = new Bench();
    const threads = new Threads(pathToFileURL(bench.path('none.mjs')));
    threads.startEarly();
    const early = threads.take();
    const error = await new Promise<Error>(resolve => early.onDeath(resolve));
    expect(error.message).toContain('none.mjs');
  });

  test('one that ends closes the ways to it, and tells whoever has it', async () => {
    const thread = stationThreads.take();
    const port = thread.connect('sealing');
    const told = [once(port, 'close'), new Promise<void>(resolve => thread.onEnd(resolve))];
    await thread.end();
    await Promise.all(told);
  });

  test('one that nobody takes keeps no process alive', async () => {
    await using child = new Child(
      `const { stationThreads } = await import(dist + 'core/threads.js');
       stationThreads.startEarly(); process.stdin.destroy(); console.log('done');`,
    );
    expect(await child.ended()).toEqual(['done']);
  });
});
