import { afterAll, describe, expect, test } from 'vitest';
import { stationThreads } from '#src/core/threads.ts';
import { localSealer } from '#src/vault/sealer.ts';
import { threadedSealer } from '#src/vault/threaded-sealer.ts';
import { newIdentity, recipientTextOf } from '#src/vault/x25519.ts';
import { Bench } from '../support/cli.ts';
import { Child } from '../support/children.ts';

const identity = newIdentity();
const recipient = recipientTextOf(identity);
const plain = (): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from('a private key'));

const thread = stationThreads.take();
const bench = new Bench();
afterAll(async () => {
  await thread.end();
  await bench[Symbol.asyncDispose]();
});

describe('a sealer in another thread', () => {
  const there = threadedSealer(thread.connect('sealing'));

  test('seals what the one here opens, and opens what it sealed', async () => {
    const here = localSealer();
    const opened = await here.open([identity], await there.seal([recipient], plain()));
    expect(Buffer.from(opened.plain!).toString()).toBe('a private key');
    const back = await there.open([identity], await here.seal([recipient], plain()));
    expect(Buffer.from(back.plain!).toString()).toBe('a private key');
  });

  test('leaves no copy of the bytes with whoever gave them away', async () => {
    const bytes = plain();
    const sealing = there.seal([recipient], bytes);
    expect(bytes.byteLength).toBe(0);
    await sealing;
  });

  test('says whether an item that it can not open was sealed to somebody who is here', async () => {
    const sealed = await there.seal([recipient], plain());
    expect(await there.open([newIdentity()], sealed)).toMatchObject({ plain: null, fits: false });
    sealed[sealed.length - 1]! ^= 1;
    expect(await there.open([identity], sealed)).toMatchObject({ plain: null, fits: true });
  });

  test('says what was wrong with a recipient', async () => {
    await expect(there.seal(['age1nobody'], plain())).rejects.toMatchObject({ code: 'BUG' });
  });

  test('tells whoever waits for it that its thread has ended, and whoever asks later', async () => {
    const short = stationThreads.take();
    const sealer = threadedSealer(short.connect('sealing'));
    const asked = expect(sealer.seal([recipient], plain())).rejects.toMatchObject({ code: 'BUG' });
    await short.end();
    await asked;
    await expect(sealer.open([identity], plain())).rejects.toMatchObject({ code: 'BUG' });
  });

  test('seals for whoever has a record open, in the thread of that, and both end with the record', async () => {
    await using child = new Child(
      `const { Store } = await import(dist + 'store/store.js');
       const { threadedSealer } = await import(dist + 'vault/threaded-sealer.js');
       const store = await Store.open({ path: argv[0], create: true });
       const sealer = threadedSealer(store.thread.connect('sealing'));
       const sealed = await sealer.seal([argv[1]], new Uint8Array(Buffer.from('x')));
       await store.close();
       process.stdin.destroy(); console.log(sealed.length > 100);`,
      [bench.path('fleet.db'), recipient],
    );
    expect(await child.ended()).toEqual(['true']);
  });
});
