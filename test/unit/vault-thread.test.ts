import { describe, expect, test } from 'vitest';
import { localSealer } from '#src/vault/sealer.ts';
import { threadedSealer } from '#src/vault/threaded-sealer.ts';
import { newIdentity, recipientTextOf } from '#src/vault/x25519.ts';
import { Child } from '../support/children.ts';

const identity = newIdentity();
const recipient = recipientTextOf(identity);
const plain = (): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from('a private key'));

describe('a sealer in a thread of its own', () => {
  test('seals what the one here opens, and opens what it sealed', async () => {
    const [here, there] = [localSealer(), threadedSealer()];
    const opened = await here.open([identity], await there.seal([recipient], plain()));
    expect(Buffer.from(opened.plain!).toString()).toBe('a private key');
    const back = await there.open([identity], await here.seal([recipient], plain()));
    expect(Buffer.from(back.plain!).toString()).toBe('a private key');
  });

  test('leaves no copy of the bytes with whoever gave them away', async () => {
    const bytes = plain();
    const sealing = threadedSealer().seal([recipient], bytes);
    expect(bytes.byteLength).toBe(0);
    await sealing;
  });

  test('says whether an item that it can not open was sealed to somebody who is here', async () => {
    const sealer = threadedSealer();
    const sealed = await sealer.seal([recipient], plain());
    expect(await sealer.open([newIdentity()], sealed)).toMatchObject({ plain: null, fits: false });
    sealed[sealed.length - 1]! ^= 1;
    expect(await sealer.open([identity], sealed)).toMatchObject({ plain: null, fits: true });
  });

  test('says what was wrong with a recipient', async () => {
    await expect(threadedSealer().seal(['age1nobody'], plain())).rejects.toMatchObject({ code: 'BUG' });
  });

  test.each(['', 'await sealer.seal([argv[0]], new Uint8Array(Buffer.from("x")));'])(
    'keeps no process alive (after %j)',
    async use => {
      await using child = new Child(
        `const { threadedSealer } = await import(dist + 'vault/threaded-sealer.js');
         const sealer = threadedSealer(); ${use} process.stdin.destroy(); console.log('done');`,
        [recipient],
      );
      expect(await child.ended()).toEqual(['done']);
    },
  );
});
