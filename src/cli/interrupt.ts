import type { Output } from '../report/terminal.ts';
import { EXIT } from './exit-codes.ts';

/**
 * Ctrl-C (and SIGTERM, SIGHUP): the first one asks for a safe end, the second one cuts. What is on disk by then is what a
 * later run goes on from.
 */
export function onInterrupt(out: Output, message: string): { signal: AbortSignal; dispose: () => void } {
  const drain = new AbortController();
  const onSignal = (): void => {
    if (drain.signal.aborted) process.exit(EXIT.INTERRUPTED);
    drain.abort();
    out.talk(`\n${message}`);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, onSignal);
  return {
    signal: drain.signal,
    dispose: () => {
      for (const signal of signals) process.off(signal, onSignal);
    },
  };
}
