import type { MessagePort } from 'node:worker_threads';
import { localSealer } from './sealer.ts';
import type { SealingReply, SealingRequest } from './threaded-sealer.ts';

/** Seals and opens for threaded-sealer.ts, at the other end of the port. */
export function serveSealing(port: MessagePort): void {
  const sealer = localSealer();
  import('age-encryption').catch(() => undefined); // before the first item is there, which tells what went wrong

  const answer = async (request: SealingRequest): Promise<void> => {
    const { id } = request;
    try {
      if (request.type === 'seal') {
        const sealed = await sealer.seal(request.recipients, request.plain);
        post({ id, sealed });
      } else {
        const opened = await sealer.open(request.identities, request.sealed);
        // What was opened moves, and leaves no copy in this thread.
        const moved = opened.plain?.buffer instanceof ArrayBuffer ? [opened.plain.buffer] : [];
        post({ id, opened }, moved);
      }
    } catch (error) {
      post({ id, failed: error instanceof Error ? error.message : 'something that is no error was thrown' });
    }
  };

  function post(reply: SealingReply, moved: readonly ArrayBuffer[] = []): void {
    port.postMessage(reply, moved);
  }

  port.on('message', (request: SealingRequest) => {
    void answer(request);
  });
  port.unref(); // it alone keeps no thread alive
}
